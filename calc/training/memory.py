"""Memory of a training plan: states, activations, buffers and overhead of each stage, at the instant they peak.

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

from dataclasses import replace

from calc.architecture.part import Part
from calc.formulas import activations, adapters, held, states
from calc.formulas.activations import Keeping, Kept
from calc.formulas.schedule import in_flight
from calc.ledger import Term, computed, largest, total
from calc.memory.overhead import NO_CONTEXT_KINDS, SLACK, assumed_term
from calc.specs.software import Assumed
from calc.training import offload
from calc.training.plan import Plan
from calc.training.stage_memory import FLAT, StageMemory, fullest
from calc.training.stages import Stage
from calc.training.states import Amounts, ModelStates, state_terms
from calc.xp import Number, is_array, maximum, minimum, where

ELEMENTS = {"fp32": 4.0, "tf32": 4.0}
"""Bytes of an activation, where it isn't two: 8-bit formats are made from 16-bit activations."""
HALF = 2
"""Bytes per element of 16-bit copies."""


class TrainingMemory:
    """Memory of a plan, stage by stage; what all stages share is computed once."""

    def __init__(self, plan: Plan, model: ModelStates | None = None) -> None:
        self.plan = plan
        self.model = model or ModelStates(plan)
        training, layout, recipe = plan.training, plan.layout, plan.parts.recipe
        self.element = ELEMENTS.get(training.precision, 2.0)
        self.autocast = recipe.cast_bytes > 0 and self.element < recipe.weight_bytes and plan.sharding != "zero3"
        self.whole = keeping(plan, self.element, self.autocast)
        self.several = where(plan.data_group > 1, 1, 0)
        """Whether there are ranks to share states with."""
        self.at_once = plan.parts.optimizer.fused_backward
        """Whether each gradient is used up and freed in backward: no buckets, no flat copies."""
        self.upcasts = plan.parts.profile.upcasts_gradients and not self.at_once
        self.by_layer = plan.parts.profile.gather_unit == "layer"
        self.unit = self.model.unit() if self.by_layer else self.model.largest_of_layers()
        """Elements that are gathered, and whose gradients are reduced, at once."""
        self.residual = layout.tensor if plan.sequence_parallel else 1
        self.expert_share = plan.imbalance / layout.expert_tensor * (
            layout.expert_tensor / layout.tensor if plan.sequence_parallel else 1)  # fmt: skip
        self.input = activations.layer_input_bytes(
            plan.scenario.model.hidden_size, 4.0 if self.autocast else self.element, layout.tensor,
            plan.sequence_parallel)  # fmt: skip
        kinds = [kind.layer.parts for kind in plan.model.kinds]
        if plan.parts.profile.torch_activations:
            kinds = [held.with_torch_activations(parts) for parts in kinds]
        self.full = [self._token_bytes(activations.kept_by(parts, self.whole)) for parts in kinds]
        if plan.frozen and plan.base.bits < 8 * HALF and plan.parts.profile.quantized_keep_inputs:
            self.full = [full + self._token_bytes(held.inputs(parts, self.element))
                         for full, parts in zip(self.full, kinds, strict=True)]  # fmt: skip
        self.kept = self._kept(kinds)
        self.working = [self._working(parts) for parts in kinds]
        self.first = self._token_bytes(activations.kept_by(plan.model.first, self.whole))
        self.last = self._token_bytes(activations.kept_by((*plan.model.last, *plan.model.mtp), self.whole))
        self.logit = plan.padded_vocabulary / layout.tensor
        """Logits of a token on one device."""

    def _kept(self, kinds: list[tuple[Part, ...]]) -> list[Number]:
        """Bytes per token that each kind of layer keeps, where it isn't recomputed as a whole."""
        plan = self.plan
        saves = plan.parts.profile.recompute_saves
        if saves and "selective" in plan.training.recompute:
            hidden = plan.scenario.model.hidden_size
            return [self._token_bytes(held.kept_products(parts, saves, hidden, self.element)) for parts in kinds]
        if plan.recompute != "modules":
            return self.full
        less_kept = replace(self.whole, recomputed=plan.modules)
        return [self._token_bytes(activations.kept_by(parts, less_kept)) for parts in kinds]

    def _token_bytes(self, kept: Kept) -> Number:
        """Bytes per token that a device keeps of what some parts keep."""
        plan, layout = self.plan, self.plan.layout
        return activations.bytes_per_token(
            kept, tensor=layout.tensor, sequence_parallel=plan.sequence_parallel, expert_tensor=layout.expert_tensor,
            keys=plan.length, encoder=1, imbalance=plan.imbalance,
        )  # fmt: skip

    def _working(self, parts: tuple[Part, ...]) -> Number:
        """Bytes per token of a layer's gradients of activations."""
        plan = self.plan
        return held.working_token_bytes(
            held.working(parts), plan.scenario.model.hidden_size, self.element, tensor=plan.layout.tensor,
            residual=self.residual, expert_share=self.expert_share,
            keys=plan.length if plan.training.attention == "unfused" else 0,
        )  # fmt: skip

    def stages(self) -> list[StageMemory]:
        """Each stage whose contents can differ."""
        return [self.stage(stage) for stage in self.plan.stages]

    def stage(self, stage: Stage) -> StageMemory:
        """One stage's terms."""
        plan, profile, model = self.plan, self.plan.parts.profile, self.model
        amounts = model.of(stage)
        weights, gradients, optimizer, adapter = state_terms(model, amounts)
        host, tiers = offload.moved(plan, weights.value, gradients.value, optimizer.value)
        kept = {"weights": weights, "gradients": gradients, "optimizer": optimizer}
        for name in host:
            kept[name] = Term(f"memory.{name}", 0 * kept[name].value, note=f"kept off the device: {name}")
        if self.at_once:
            kept["gradients"] = total("memory.gradients", [computed(
                "memory.gradients.largest", states.fused_backward_bytes, largest_elements=model.largest(),
                element_bytes=plan.parts.recipe.gradient_bytes)])  # fmt: skip
        instants, found = self._instants(stage, amounts, kept["gradients"].value)
        if "nvme" in tiers.values():
            host["staging"], tiers["staging"] = offload.staging(plan, model), "host"
        if "activations" in plan.scenario.parallel.offload:
            host["activations"], tiers["activations"] = found, "host"
        transient = largest("memory.transient", instants)
        buffers = self._buffers(stage, amounts)
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
                           overhead=total("memory.overhead", overhead), host=host, tiers=tiers)  # fmt: skip

    # instants

    def _instants(self, stage: Stage, amounts: Amounts, gradients: Number) -> tuple[list[Term], Number]:
        """The instants of a step, and what activations take that are kept elsewhere."""
        plan, layout, profile = self.plan, self.plan.layout, self.plan.parts.profile
        under_way = in_flight(plan.schedule, layout.pipeline, layout.micro_batches, stage.index, layout.virtual)
        kept, offloaded = self._activations(stage, under_way)
        gathered = self._gathered(stage, amounts)
        whole_gradients = self._whole_gradients(amounts)
        always = [*gathered, *whole_gradients, *self._boundary(under_way)]
        room = self._not_made(gradients)
        layer = self._layer(amounts)
        head, table = self._gathered_ends(stage)
        rest = [*table, *head] if profile.root_gathered else []
        instants = [
            total("memory.transient.backward", less([kept], [], [*layer, *always, *rest],
                                                    maximum(room - self._made(amounts), 0))),
            total("memory.transient.end", [*self._others(kept, under_way), *layer, *self._table(stage), *always,
                                           *(rest or table)]),
            total("memory.transient.optimizer", self._step(stage, amounts)),
        ]  # fmt: skip
        if is_array(stage.last) or stage.last:
            logits, beside = self._loss(stage)
            there = [*always, *(rest or head)]
            instants = [
                total("memory.transient.loss", less([kept], logits, [*beside, *there], room)),
                total("memory.transient.head", less([kept], logits[:1], [*self._head(stage), *there], room)),
                *instants,
            ]
        return instants, offloaded

    def _activations(self, stage: Stage, under_way: Number) -> tuple[Term, Number]:
        """What all micro-batches under way keep on the device, and elsewhere."""
        plan = self.plan
        terms = []
        for kind, kept, whole, count in zip(plan.model.kinds, self.kept, self.full, stage.counts, strict=True):
            per_token = kept
            if plan.recompute == "full":
                share = self._share(stage)
                per_token = share * self.input + (1 - share) * whole
            terms.append(computed(f"memory.activations.{kind.layer.kind}", held.activation_bytes, layers=count,
                                  tokens=plan.tokens, token_bytes=per_token, in_flight=under_way))  # fmt: skip
        for name, there, per_token in (("first", stage.first, self.first), ("last", stage.last, self.last)):
            # only the last stage's own micro-batch has come through the head
            batches = under_way if name == "first" else minimum(under_way, 1)
            terms.append(computed(f"memory.activations.{name}", held.activation_bytes, layers=there,
                                  tokens=plan.tokens, token_bytes=per_token, in_flight=batches))  # fmt: skip
        found = total("memory.activations", terms)
        if "activations" not in plan.scenario.parallel.offload:
            return found, 0
        per_layer = self.input if plan.recompute == "full" else maximum(*self.kept, self.input)
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
        if "activations" not in plan.scenario.parallel.offload:
            per_token = maximum(*self.kept) if plan.recompute != "full" else self.input
            found.append(computed("memory.activations.first_layer", held.activation_bytes, layers=1,
                                  tokens=plan.tokens, token_bytes=per_token))  # fmt: skip
        return found

    def _layer(self, amounts: Amounts) -> list[Term]:
        """What one layer's backward pass works with: gradients of activations, what is computed again, matrices."""
        plan = self.plan
        found = [computed("memory.buffers.backward", held.activation_bytes, layers=1, tokens=plan.tokens,
                          token_bytes=maximum(*self.working))]  # fmt: skip
        if plan.recompute != "none":
            again = maximum(*(whole - (self.input if plan.recompute == "full" else kept)
                              for whole, kept in zip(self.full, self.kept, strict=True)))  # fmt: skip
            found.append(computed("memory.activations.recomputed", held.activation_bytes, layers=1, tokens=plan.tokens,
                                  token_bytes=maximum(again, 0)))  # fmt: skip
        found += self._adapter_temporaries()
        sharded = plan.sharding in ("zero2", "zero3") or "optimizer" in plan.scenario.parallel.offload
        if sharded and not self.at_once:
            share = 1 if not plan.frozen else amounts.trained / maximum(amounts.elements, 1)
            # ZeRO-3 by layers copies them together to reduce them; buckets stand apart
            reduced = plan.parts.profile.gradient_reduce_bytes if plan.sharding == "zero3" and self.by_layer else 0
            found.append(computed("memory.buffers.unit_gradients", states.unit_gradient_bytes,
                                  unit_elements=share * self.unit * self.several,
                                  element_bytes=self.element + reduced, units=1))  # fmt: skip
        return found

    def _adapter_temporaries(self) -> list[Term]:
        """A widened matrix of a quantized base; what a kind of adapter writes out while a layer computes."""
        plan, adapter = self.plan, self.plan.adapter
        if not plan.frozen or adapter is None:
            return []
        found = []
        matrix = self.model.largest_of_layers()
        if plan.base.bits < 8 * HALF:
            found.append(computed("memory.buffers.dequantized", held.dequantized_bytes, elements=matrix,
                                  element_bytes=self.element))  # fmt: skip
        if adapter.kind.name == "dora":
            found.append(computed("memory.buffers.magnitude", held.dequantized_bytes, elements=matrix,
                                  element_bytes=self.element))  # fmt: skip
        if adapter.kind.name == "nola":
            model = plan.scenario.model
            found.append(computed("memory.buffers.bases", adapters.basis_bytes, rank=adapter.rank,
                                  largest=matrix / model.hidden_size, element_bytes=self.element))  # fmt: skip
        return found

    def _loss(self, stage: Stage) -> tuple[list[Term], list[Term]]:
        """Logits of one micro-batch with the probabilities kept of them, and what the loss makes beside them."""
        plan, tokens = self.plan, self.plan.tokens * stage.last
        each = self._bytes_per_logit()
        beside = []
        if each is None:
            need = activations.loss_bytes(
                plan.padded_vocabulary, plan.scenario.model.hidden_size, loss="chunked", kernels=plan.kernels,
                element_bytes=self.element, tensor=plan.layout.tensor, chunks=plan.training.loss_chunks)  # fmt: skip
            logits, kept, rest = need.logits, need.kept, need.temporary
            if not plan.frozen:
                beside.append(computed("memory.buffers.head_gradient", held.table_gradient_bytes,
                                       elements=self.model.head * stage.last, element_bytes=self.element))  # fmt: skip
        else:
            kept_each = minimum(ELEMENTS["fp32"], maximum(each - self.element, 0))
            logits, kept = minimum(self.element, each) * self.logit, kept_each * self.logit
            rest = maximum(each - self.element - kept_each, 0) * self.logit
        found = [computed(f"memory.logits.{name}", held.loss_bytes, tokens=tokens, token_bytes=value)
                 for name, value in (("logits", logits), ("kept", kept))]  # fmt: skip
        return found, [computed("memory.buffers.loss", held.loss_bytes, tokens=tokens, token_bytes=rest), *beside]

    def _bytes_per_logit(self) -> Number | None:
        """Bytes per logit at the loss's peak; None where the loss takes the tokens piece by piece."""
        plan, profile = self.plan, self.plan.parts.profile
        wider = self.element - HALF
        if plan.training.loss == "chunked":
            return None if profile.chunked_logits_bytes is None else profile.chunked_logits_bytes.value + wider
        if plan.training.loss == "fused":
            return profile.fused_logits_bytes.value
        alone, shared = profile.logits_bytes.value, profile.parallel_logits_bytes
        return wider + (alone if shared is None else where(plan.layout.tensor > 1, shared.value, alone))

    def _head(self, stage: Stage) -> list[Term]:
        """What the head's backward pass writes: gradients of its matrix and its input; those of the logits take the
        logits' place, or stand beside them."""
        plan = self.plan
        found = [computed("memory.buffers.head_input", held.activation_bytes, layers=stage.last, tokens=plan.tokens,
                          token_bytes=self.element * plan.scenario.model.hidden_size / self.residual)]  # fmt: skip
        if plan.parts.profile.keeps_logits and plan.training.loss == "full":
            found.append(computed("memory.buffers.logit_gradients", held.loss_bytes, tokens=plan.tokens * stage.last,
                                  token_bytes=self.element * self.logit))  # fmt: skip
        if not plan.frozen:
            found.append(computed("memory.buffers.head_gradient", held.table_gradient_bytes,
                                  elements=self.model.head * stage.last * self._adds_up(),
                                  element_bytes=self.element))  # fmt: skip
        return found

    def _table(self, stage: Stage) -> list[Term]:
        """Gradient of the input table, where it is added to one that is there already."""
        plan = self.plan
        if plan.frozen:
            return []
        return [computed("memory.buffers.table_gradient", held.table_gradient_bytes,
                         elements=self.model.first.elements * stage.first * self._adds_up(),
                         element_bytes=self.element)]  # fmt: skip

    def _adds_up(self) -> Number:
        """1 where a gradient that backward makes is added to another (a buffer's, the last micro-batch's), else 0."""
        if not self.plan.parts.profile.gradients_in_backward:
            return 1
        return where(self.plan.layout.micro_batches > 1, 1, 0)

    def _step(self, stage: Stage, amounts: Amounts) -> list[Term]:
        """What the optimizer's step allocates, and what a loop of its own still holds of the last micro-batch."""
        plan, profile, model = self.plan, self.plan.parts.profile, self.model
        if "optimizer" in plan.scenario.parallel.offload:
            return []
        recipe = plan.adapter.recipe if plan.frozen and plan.adapter is not None else plan.parts.recipe
        found = [computed(
            "memory.buffers.optimizer_step", states.step_temporary_bytes, optimizer=plan.parts.optimizer,
            recipe=recipe, implementation=profile.optimizer_step, elements=amounts.updated(model),
            largest=model.largest(), ranks=1,
        )]  # fmt: skip
        if self.upcasts:
            found.append(computed("memory.buffers.upcast", states.upcast_bytes, elements=amounts.updated(model),
                                  gradient_bytes=recipe.gradient_bytes, master_bytes=recipe.master_bytes,
                                  ranks=1))  # fmt: skip
            found.append(computed("memory.buffers.flattened", states.gradients_bytes, elements=amounts.updated(model),
                                  element_bytes=recipe.gradient_bytes, ranks=1))  # fmt: skip
        if profile.keeps_logits and plan.training.loss == "full":
            found.append(computed("memory.logits.logits", held.loss_bytes, tokens=plan.tokens * stage.last,
                                  token_bytes=self.element * self.logit))  # fmt: skip
        return found

    def _flat(self, instants: list[Term], peak: Number) -> Term:
        """What the allocator reserves apart for the step's one flat buffer, which doesn't fit in what was freed."""
        before = maximum(*(term.value for term in instants if term.name != "memory.transient.optimizer"))
        step = next(term.value for term in instants if term.name == "memory.transient.optimizer")
        note = "a flat buffer of the optimizer's step, which finds no room among freed activations"
        return Term(FLAT, before + step - peak, low=0 * peak, high=before + step - peak, note=note)

    def _gathered(self, stage: Stage, amounts: Amounts) -> list[Term]:
        """Weights gathered from the ranks that share them."""
        plan, model, profile = self.plan, self.model, self.plan.parts.profile
        away = "parameters" in plan.scenario.parallel.offload
        if plan.sharding != "zero3" and not away:
            return []
        shared = 1 if away else self.several
        size: Number = plan.gather_bytes
        if plan.frozen:  # in the format they are stored in
            size = model.unit_stored() / maximum(model.unit(), 1)
        prefetch: Number = profile.prefetch_units
        stays = not profile.reshard_after_forward or (plan.frozen and profile.frozen_stay_gathered)
        if plan.sharding == "zero3" and (profile.pipelined_whole or stays):
            all_units = maximum(amounts.elements / maximum(self.unit, 1) - 1, prefetch)
            prefetch = all_units if stays else where(plan.layout.pipeline > 1, all_units, prefetch)
        if profile.live_elements:
            live = minimum(profile.live_elements, amounts.elements)
            prefetch = maximum(prefetch, live / maximum(self.unit, 1) - 1)
        return [computed("memory.buffers.gathered", states.gathered_bytes, unit_elements=self.unit * shared,
                         element_bytes=size, prefetch=prefetch)]  # fmt: skip

    def _gathered_ends(self, stage: Stage) -> tuple[list[Term], list[Term]]:
        """The head and the input table, gathered."""
        plan, model = self.plan, self.model
        away = "parameters" in plan.scenario.parallel.offload
        if plan.sharding != "zero3" and not away:
            return [], []
        shared = 1 if away else self.several
        size = HALF if plan.frozen else plan.gather_bytes
        tied = stage.last * stage.first if model.tied.groups else 0
        held_here = (("head", stage.last * shared * model.head),
                     ("table", stage.first * shared * model.first.elements * (1 - tied)))  # fmt: skip
        head, table = ([computed(f"memory.buffers.gathered_{name}", states.gathered_bytes, unit_elements=elements,
                                 element_bytes=size, prefetch=0)] for name, elements in held_here)  # fmt: skip
        return head, table

    def _whole_gradients(self, amounts: Amounts) -> list[Term]:
        """Whole gradients that micro-batches add up before ranks share them out."""
        plan, profile = self.plan, self.plan.parts.profile
        if plan.sharding not in ("zero2", "zero3") or plan.frozen:
            return []
        batches: Number = where(plan.layout.micro_batches > 1, 1, 0)
        if profile.reduce_each_micro_batch:
            batches = batches * where(plan.layout.pipeline > 1, 1, 0) if profile.pipelined_whole else 0
        return [computed("memory.buffers.whole_gradients", states.accumulation_bytes,
                         elements=amounts.trained * batches, element_bytes=profile.gradient_reduce_bytes,
                         ranks=1)]  # fmt: skip

    def _boundary(self, under_way: Number) -> list[Term]:
        """What the pipeline and the context group hold beside what layers keep."""
        plan, layout, profile = self.plan, self.plan.layout, self.plan.parts.profile
        found = []
        if profile.stage_tensors:
            found.append(computed("memory.buffers.boundary", held.boundary_bytes, tensors=profile.stage_tensors,
                                  tokens=plan.tokens, token_bytes=self.input,
                                  in_flight=where(layout.pipeline > 1, under_way, 0)))  # fmt: skip
        if is_array(layout.context) or layout.context > 1:
            kind = plan.scenario.parallel.context_kind
            blocks = {"ring": 2, "all_gather": layout.context, "ulysses": 0}[kind]
            found.append(computed("memory.buffers.context", held.context_bytes,
                                  blocks=where(layout.context > 1, blocks, 0), tokens=plan.tokens,
                                  key_value_elements=self.model.key_values / layout.tensor,
                                  element_bytes=self.element))  # fmt: skip
        return found

    def _not_made(self, gradients: Number) -> Number:
        """Gradients that don't exist yet when backward begins, where it makes them and nothing is added up."""
        plan = self.plan
        if not plan.parts.profile.gradients_in_backward:
            return 0
        return where(plan.layout.micro_batches > 1, 0, gradients)

    def _made(self, amounts: Amounts) -> Number:
        """Gradients of the layer that backward is at: they exist while it computes [byte]."""
        plan = self.plan
        share = amounts.trained / maximum(amounts.elements, 1)
        recipe = plan.adapter.recipe if plan.frozen and plan.adapter is not None else plan.parts.recipe
        return share * self.unit * recipe.gradient_bytes / self.model.ranks(False, "gradients")

    def _buffers(self, stage: Stage, amounts: Amounts) -> Term:
        """Buckets, copies in another format, workspaces."""
        plan, profile, model = self.plan, self.plan.parts.profile, self.model
        found = [assumed_term("memory.buffers.workspace", profile.workspace)]
        if not plan.frozen and not self.at_once:
            found.append(assumed_term("memory.buffers.buckets", profile.bucket_bytes, self.several))
        casts = plan.parts.recipe.cast_bytes if self.autocast and not plan.frozen else 0
        copies = amounts.copies(model) + casts * amounts.matrices
        found.append(Term("memory.buffers.copies", copies, note="copies of weights in the format multiplied in"))
        if profile.static_gradients and not plan.frozen:
            found.append(computed("memory.buffers.static_gradients", held.static_gradient_bytes,
                                  elements=model.shapes, element_bytes=self.element))  # fmt: skip
        if "hpz" in plan.scenario.parallel.zeropp:
            found.append(computed(
                "memory.buffers.secondary", states.secondary_copy_bytes, elements=amounts.elements, element_bytes=HALF,
                group=minimum(plan.scenario.cluster.devices_per_node, plan.data_group)))  # fmt: skip
        if profile.gradient_copy and plan.sharding == "none" and not self.at_once:
            found.append(computed(
                "memory.buffers.reduction", states.accumulation_bytes, elements=self.several * amounts.trained,
                element_bytes=plan.parts.recipe.gradient_bytes, ranks=1))  # fmt: skip
        return total("memory.buffers", found)


def keeping(plan: Plan, element: float, autocast: bool) -> Keeping:
    """What kinds of tensors a plan keeps."""
    training, adapter = plan.training, plan.adapter
    found = Keeping(
        kernels=plan.kernels, attention=training.attention, dropout=training.dropout > 0, element_bytes=element,
        autocast=autocast and plan.kernels == "eager", frozen=plan.frozen,
    )  # fmt: skip
    if adapter is None or not plan.frozen:
        return found
    return replace(found, adapted=adapter.names, rank=adapter.rank, adapter_bytes=adapter.recipe.weight_bytes,
                   adapter_dropout=adapter.dropout > 0)  # fmt: skip


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


__all__ = ["StageMemory", "TrainingMemory", "fullest"]
