"""Memory of a training plan: states, activations, buffers and overhead of each stage, at the instant they peak.

What tokens take in a layer is of `token_bytes`, logits of `loss_memory`, weights and gradients on their way between
ranks of `gathering`; here they meet at the instants.

Instants of a step, of which the largest counts:

- loss: all activations, logits and what the loss makes of them (last stage)
- head: all activations, gradients of the logits and of the head's matrix (last stage)
- backward: all activations, and what one layer's backward pass works with
- end: what other micro-batches keep, the first layer's backward pass, the input table's gradient (first stage)
- optimizer: what the optimizer's step works with

Gradients count in full at each instant. Where backward makes them (`gradients_in_backward`) and nothing is added up,
those not yet made leave room: buffers, then logits, then activations of that instant are less by as much.
"""

from __future__ import annotations

from calc.formulas import adapters, held, states
from calc.formulas.schedule import in_flight
from calc.ledger import Term, computed, largest, total
from calc.memory.overhead import NO_CONTEXT_KINDS, SLACK, assumed_term
from calc.specs.software import Assumed
from calc.training import offload
from calc.training.gathering import Gathering
from calc.training.loss_memory import LossMemory
from calc.training.plan import Plan
from calc.training.stage_memory import FLAT, StageMemory
from calc.training.stages import Stage
from calc.training.states import Amounts, ModelStates, state_terms
from calc.training.token_bytes import TokenBytes
from calc.xp import Number, is_array, maximum, minimum, where

HALF = 2
"""Bytes per element of 16-bit copies."""


class TrainingMemory:
    """Memory of a plan, stage by stage; what all stages share is computed once."""

    def __init__(self, plan: Plan, model: ModelStates | None = None) -> None:
        self.plan = plan
        self.model = model or ModelStates(plan)
        self.autocast = (plan.parts.recipe.cast_bytes > 0 and plan.element_bytes < plan.parts.recipe.weight_bytes
                         and plan.sharding != "zero3")  # fmt: skip
        """Whether matrices are cast to 16 bits for as long as a pass lasts."""
        self.at_once = plan.parts.optimizer.fused_backward
        """Whether each gradient is used up and freed in backward: no buckets, no flat copies."""
        self.upcasts = plan.parts.profile.upcasts_gradients and not self.at_once
        self.adds_up = 1 if not plan.parts.profile.gradients_in_backward else where(plan.layout.micro_batches > 1, 1, 0)
        """1 where a gradient that backward makes is added to another (a buffer's, the last micro-batch's), else 0."""
        self.per_token = TokenBytes(plan, self.autocast)
        self.gathering = Gathering(plan, self.model)
        self.loss = LossMemory(plan, self.model, self.per_token, self.adds_up)

    def stages(self) -> list[StageMemory]:
        """Each stage whose contents can differ."""
        return [self.stage(stage) for stage in self.model.stages]

    def stage(self, stage: Stage) -> StageMemory:
        """One stage's terms."""
        plan, profile, model = self.plan, self.plan.parts.profile, self.model
        amounts = model.of(stage)
        weights, gradients, optimizer, adapter = state_terms(model, amounts)
        away = offload.moved(plan, weights.value, gradients.value, optimizer.value)
        kept = {"weights": weights, "gradients": gradients, "optimizer": optimizer}
        for name in away:
            kept[name] = Term(f"memory.{name}", 0 * kept[name].value, note=f"kept off the device: {name}")
        if self.at_once:
            kept["gradients"] = total("memory.gradients", [computed(
                "memory.gradients.largest", states.fused_backward_bytes, largest_elements=model.largest(),
                element_bytes=plan.parts.recipe.gradient_bytes)])  # fmt: skip
        instants, offloaded = self._instants(stage, amounts, kept["gradients"].value)
        if any(tier == "nvme" for tier, _ in away.values()):
            away["staging"] = "host", offload.staging(plan, model)
        if plan.offloads("activations"):
            away["activations"] = "host", offloaded
        transient = largest("memory.transient", instants)
        buffers = self._buffers(amounts)
        driver = 0 if plan.scenario.hardware.kind in NO_CONTEXT_KINDS else 1
        several = where(plan.layout.devices > 1, 1, 0)
        overhead = [
            assumed_term("memory.overhead.context", profile.context, driver),
            assumed_term("memory.overhead.communication", profile.communication, several),
        ]  # fmt: skip
        if self.upcasts:
            overhead.append(self._flat(instants, transient.value))
        moving = transient.value + buffers.value
        fixed = moving + sum(term.value for term in (*kept.values(), adapter, *overhead))
        if profile.gradients_in_backward:
            moving = moving + kept["gradients"].value
        overhead.append(slack_term(profile.slack, moving, plan.scenario.usable_bytes - fixed))
        return StageMemory(stage=stage, weights=kept["weights"], gradients=kept["gradients"],
                           optimizer=kept["optimizer"], adapter=adapter, transient=transient, buffers=buffers,
                           overhead=total("memory.overhead", overhead), away=away)  # fmt: skip

    # instants

    def _instants(self, stage: Stage, amounts: Amounts, gradients: Number) -> tuple[list[Term], Number]:
        """The instants of a step, and what activations take that are kept elsewhere."""
        plan, layout, profile = self.plan, self.plan.layout, self.plan.parts.profile
        under_way = in_flight(plan.schedule, layout.pipeline, layout.micro_batches, stage.index, layout.virtual)
        kept, offloaded = self._activations(stage, under_way)
        always = [*self.gathering.weights(amounts), *self.gathering.added_up(amounts), *self._boundary(under_way)]
        room = self._not_made(gradients)
        layer = self._layer(amounts)
        head, table = self.gathering.ends(stage)
        rest = [*table, *head] if profile.root_gathered else []
        instants = [
            total("memory.transient.backward", less([kept], [], [*layer, *always, *rest],
                                                    maximum(room - self.gathering.made(amounts), 0))),
            total("memory.transient.end", [*self._others(kept, under_way), *layer, *self._table(stage), *always,
                                           *(rest or table)]),
            total("memory.transient.optimizer", self._step(stage, amounts)),
        ]  # fmt: skip
        if is_array(stage.last) or stage.last:
            logits, beside = self.loss.loss(stage)
            there = [*always, *(rest or head)]
            instants = [
                total("memory.transient.loss", less([kept], logits, [*beside, *there], room)),
                total("memory.transient.head", less([kept], logits[:1], [*self.loss.head(stage), *there], room)),
                *instants,
            ]
        return instants, offloaded

    def _activations(self, stage: Stage, under_way: Number) -> tuple[Term, Number]:
        """What all micro-batches under way keep on the device, and elsewhere."""
        plan, each = self.plan, self.per_token
        terms = []
        for kind, kept, whole, count in zip(plan.model.kinds, each.kept, each.full, stage.counts, strict=True):
            per_token = kept
            if plan.recompute == "full":
                share = self._share(stage)
                per_token = share * each.input + (1 - share) * whole
            terms.append(computed(f"memory.activations.{kind.layer.kind}", held.activation_bytes, layers=count,
                                  tokens=plan.tokens, token_bytes=per_token, in_flight=under_way))  # fmt: skip
        for name, there, per_token in (("first", stage.first, each.first), ("last", stage.last, each.last)):
            # only the last stage's own micro-batch has come through the head
            batches = under_way if name == "first" else minimum(under_way, 1)
            terms.append(computed(f"memory.activations.{name}", held.activation_bytes, layers=there,
                                  tokens=plan.tokens, token_bytes=per_token, in_flight=batches))  # fmt: skip
        found = total("memory.activations", terms)
        if not plan.offloads("activations"):
            return found, 0
        per_layer = each.input if plan.recompute == "full" else maximum(*each.kept, each.input)
        return total("memory.activations", [computed(
            "memory.activations.under_way", held.activation_bytes, layers=2, tokens=plan.tokens,
            token_bytes=per_layer)]), found.value  # fmt: skip

    def _share(self, stage: Stage) -> Number:
        """Share of a stage's layers that full recomputation repeats."""
        asked = self.plan.training.recompute_layers
        return 1 if asked is None else minimum(1, asked / maximum(stage.layers, 1))

    def _others(self, kept: Term, under_way: Number) -> list[Term]:
        """Activations when one micro-batch is back at its first layer: that layer's, and those of the others."""
        plan = self.plan
        share = maximum(under_way - 1, 0) / maximum(under_way, 1)
        found = [Term(kept.name, kept.value * share, note="all micro-batches under way but the one that ends")]
        if not plan.offloads("activations"):
            per_token = maximum(*self.per_token.kept) if plan.recompute != "full" else self.per_token.input
            found.append(computed("memory.activations.first_layer", held.activation_bytes, layers=1,
                                  tokens=plan.tokens, token_bytes=per_token))  # fmt: skip
        return found

    def _layer(self, amounts: Amounts) -> list[Term]:
        """What one layer's backward pass works with: gradients of activations and matrices, what is computed again."""
        plan, each = self.plan, self.per_token
        found = [computed("memory.buffers.backward", held.activation_bytes, layers=1, tokens=plan.tokens,
                          token_bytes=maximum(*each.working))]  # fmt: skip
        if plan.recompute != "none":
            again = maximum(*(whole - (each.input if plan.recompute == "full" else kept)
                              for whole, kept in zip(each.full, each.kept, strict=True)))  # fmt: skip
            found.append(computed("memory.activations.recomputed", held.activation_bytes, layers=1, tokens=plan.tokens,
                                  token_bytes=maximum(again, 0)))  # fmt: skip
        narrowed = plan.parts.recipe.transient_copy_bytes_of("linear", plan.parts.precision)
        if narrowed and not plan.frozen:
            found.append(computed("memory.buffers.narrowed", held.copied_matrix_bytes,
                                  elements=self.model.largest_of_layers(), element_bytes=narrowed))  # fmt: skip
        return [*found, *self._adapter_temporaries(), *self.gathering.unit_gradients(amounts)]

    def _adapter_temporaries(self) -> list[Term]:
        """A widened matrix of a quantized base; what a kind of adapter writes out while a layer computes."""
        plan, adapter = self.plan, self.plan.adapter
        if not plan.frozen or adapter is None:
            return []
        found = []
        matrix = self.model.largest_of_layers()
        if plan.quantized:
            found.append(computed("memory.buffers.dequantized", held.copied_matrix_bytes, elements=matrix,
                                  element_bytes=plan.element_bytes))  # fmt: skip
        if adapter.kind.name == "dora":
            found.append(computed("memory.buffers.magnitude", adapters.magnitude_bytes, elements=matrix,
                                  element_bytes=plan.element_bytes))  # fmt: skip
        if adapter.kind.name == "nola":
            model = plan.scenario.model
            found.append(computed("memory.buffers.bases", adapters.basis_bytes, rank=adapter.rank,
                                  largest=matrix / model.hidden_size, element_bytes=plan.element_bytes))  # fmt: skip
        return found

    def _table(self, stage: Stage) -> list[Term]:
        """Gradient of the input table, where it is added to one that is there already."""
        plan = self.plan
        if plan.frozen:
            return []
        return [computed("memory.buffers.table_gradient", held.table_gradient_bytes,
                         elements=self.model.first.elements * stage.first * self.adds_up,
                         element_bytes=plan.element_bytes)]  # fmt: skip

    def _step(self, stage: Stage, amounts: Amounts) -> list[Term]:
        """What the optimizer's step allocates, and what a loop of its own still holds of the last micro-batch."""
        plan, profile, model = self.plan, self.plan.parts.profile, self.model
        if plan.offloads("optimizer"):
            return []
        recipe = plan.trained_recipe
        found = [computed(
            "memory.buffers.optimizer_step", states.step_temporary_bytes, optimizer=plan.parts.optimizer,
            recipe=recipe, implementation=profile.optimizer_step, elements=amounts.updated(model),
            largest=model.largest(), ranks=1,
        )]  # fmt: skip
        if self.upcasts:
            elements = amounts.updated(model)
            if plan.sharding == "zero3" and profile.step_elements:
                elements = minimum(elements, profile.step_elements)
            found.append(computed("memory.buffers.upcast", states.upcast_bytes, elements=elements,
                                  gradient_bytes=recipe.gradient_bytes, master_bytes=recipe.master_bytes,
                                  ranks=1))  # fmt: skip
            found.append(computed("memory.buffers.flattened", states.gradients_bytes, elements=elements,
                                  element_bytes=recipe.gradient_bytes, ranks=1))  # fmt: skip
        return [*found, *self.loss.still_held(stage)]

    def _flat(self, instants: list[Term], peak: Number) -> Term:
        """What the allocator reserves apart for the step's one flat buffer, which doesn't fit in what was freed."""
        before = maximum(*(term.value for term in instants if term.name != "memory.transient.optimizer"))
        step = next(term.value for term in instants if term.name == "memory.transient.optimizer")
        note = "a flat buffer of the optimizer's step, which finds no room among freed activations"
        return Term(FLAT, before + step - peak, low=0 * peak, high=before + step - peak, note=note)

    def _boundary(self, under_way: Number) -> list[Term]:
        """What the pipeline and the context group hold beside what layers keep."""
        plan, layout, profile = self.plan, self.plan.layout, self.plan.parts.profile
        found = []
        if profile.stage_tensors:
            found.append(computed("memory.buffers.boundary", held.boundary_bytes, tensors=profile.stage_tensors,
                                  tokens=plan.tokens, token_bytes=self.per_token.input,
                                  in_flight=where(layout.pipeline > 1, under_way, 0)))  # fmt: skip
        if is_array(layout.context) or layout.context > 1:
            kind = plan.scenario.parallel.context_kind
            blocks = {"ring": 2, "all_gather": layout.context, "ulysses": 0}[kind]
            found.append(computed("memory.buffers.context", held.context_bytes,
                                  blocks=where(layout.context > 1, blocks, 0), tokens=plan.tokens,
                                  key_value_elements=self.model.key_values / layout.tensor,
                                  element_bytes=plan.element_bytes))  # fmt: skip
        return found

    def _not_made(self, gradients: Number) -> Number:
        """Gradients that don't exist yet when backward begins, where it makes them and nothing is added up."""
        plan = self.plan
        if not plan.parts.profile.gradients_in_backward:
            return 0
        return where(plan.layout.micro_batches > 1, 0, gradients)

    def _buffers(self, amounts: Amounts) -> Term:
        """Buckets, copies in another format, workspaces."""
        plan, profile, model = self.plan, self.plan.parts.profile, self.model
        found = [assumed_term("memory.buffers.workspace", profile.workspace)]
        if not plan.frozen and not self.at_once:
            # one bucket fills while another is sent; a small model fills neither
            full = 2 * amounts.trained * plan.parts.recipe.gradient_bytes / maximum(profile.bucket_bytes.high, 1)
            found.append(assumed_term("memory.buffers.buckets", profile.bucket_bytes,
                                      self.gathering.several * minimum(1, full)))  # fmt: skip
        casts = plan.parts.recipe.cast_bytes if self.autocast and not plan.frozen else 0
        copies = amounts.copies(model) + casts * amounts.matrices
        found.append(Term("memory.buffers.copies", copies, note="copies of weights in the format multiplied in"))
        if profile.static_gradients and not plan.frozen:
            found.append(computed("memory.buffers.static_gradients", held.static_gradient_bytes,
                                  elements=model.shapes, element_bytes=plan.element_bytes))  # fmt: skip
        if "hpz" in plan.scenario.parallel.zeropp:
            found.append(computed(
                "memory.buffers.secondary", states.secondary_copy_bytes, elements=amounts.elements, element_bytes=HALF,
                group=minimum(plan.scenario.cluster.devices_per_node, plan.data_group)))  # fmt: skip
        if profile.gradient_copy and plan.sharding == "none" and not self.at_once:
            found.append(computed(
                "memory.buffers.reduction", states.accumulation_bytes,
                elements=self.gathering.several * amounts.trained, element_bytes=plan.parts.recipe.gradient_bytes,
                ranks=1))  # fmt: skip
        return total("memory.buffers", found)


def less(kept: list[Term], logits: list[Term], buffers: list[Term], amount: Number) -> list[Term]:
    """The terms of an instant, less an amount: buffers give first, then logits, then activations."""
    terms = [*buffers, *logits, *kept]
    if not is_array(amount) and not amount:
        return terms
    found = []
    for term in terms:
        part = minimum(amount, term.value)
        amount = amount - part
        given = Term(f"{term.name}.room", -part, note="room that gradients not made yet leave")
        found.append(Term(term.name, term.value - part, terms=(term, given), combines="sum"))
    return found


def slack_term(slack: Assumed, moving: Number, room: Number) -> Term:
    """What the allocator holds beside live tensors: a share of what comes and goes, or what room there is."""
    low = slack.low * moving
    return Term(SLACK, maximum(low, minimum(slack.value * moving, room)), low=low, high=slack.high * moving,
                note=f"{slack.source}; the allocator gives it back before it runs out")  # fmt: skip
