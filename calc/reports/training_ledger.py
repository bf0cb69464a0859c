"""The terms of a training estimate under the names of its JSON, each with formula, numbers and source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from calc.formulas import flop_conventions, flops, schedule
from calc.formulas.exposed import exposed
from calc.ledger import Term, largest, section, total
from calc.training.compose import TrainingEstimate
from calc.training.phases import COMPONENTS
from calc.xp import Number


class Stated(Term):
    """A term whose equation and source are given in words, since no single function computes it."""

    __slots__ = ("_equation", "_origin")

    def __init__(self, name: str, value: Number, unit: str, *, equation: str, source: str = "",
                 inputs: Mapping[str, Any] | None = None, terms: Iterable[Term] = (), low: Number | None = None,
                 high: Number | None = None) -> None:  # fmt: skip
        # a range of its own even where parts have one: they may be of another unit
        low, high = (value, value) if low is None or high is None else (low, high)
        super().__init__(name, value, unit, inputs=inputs, terms=terms, low=low, high=high)
        self._equation = equation
        self._origin = source

    @property
    def formula(self) -> str:
        """The equation as given."""
        return self._equation

    @property
    def source(self) -> str:
        """The source as given."""
        return self._origin


def ledger(estimate: TrainingEstimate) -> Term:
    """All terms of an estimate under one root."""
    terms = (memory(estimate), instants(estimate), time(estimate), flop_terms(estimate), throughput(estimate),
             run(estimate))  # fmt: skip
    return total("", terms)


# memory


def memory(estimate: TrainingEstimate) -> Term:
    """`memory` of the fullest device at its worst instant, made of the terms that the JSON calls `components`."""
    worst = estimate.worst
    lasting = {"weights": worst.weights, "gradients": worst.gradients, "optimizer": worst.optimizer,
               "adapter": worst.adapter, "buffers": worst.buffers, "overhead": worst.overhead}  # fmt: skip
    parts: dict[str, list[Term]] = {}
    for term in map(unshadowed, worst.instant.terms):
        parts.setdefault(term.name.split(".")[1], []).append(term)
    found = []
    for key in COMPONENTS:
        terms = parts.get(key, [])
        if key in lasting and not terms:
            found.append(unshadowed(lasting[key]))
        elif key in lasting or terms or key not in CACHES:
            both = [lasting[key], *terms] if key in lasting else terms
            found.append(unshadowed(total(f"memory.{key}", both)))
    return total("memory", found)


CACHES = ("kv_cache", "state_cache")
"""Components that only a phase of generation has."""


def instants(estimate: TrainingEstimate) -> Term:
    """`memory.instants`: what each instant needs beside states and lasting buffers, on the fullest device."""
    found = []
    for instant in estimate.worst.transient.terms:
        name = f"memory.instants.{instant.name.rpartition('.')[2]}"
        inner = [renamed(unshadowed(term), "memory", name) for term in instant.terms]
        found.append(total(name, inner))
    return largest("memory.instants", found)


def unshadowed(term: Term, above: frozenset[str] = frozenset()) -> Term:
    """A term below which none has its own name: what is reduced by some room holds what it was before, and a role of
    several its own states."""
    if not term.terms:
        return term
    names = above | {term.name}
    parts: list[Term] = []
    for inner in term.terms:
        if inner.name not in names:
            parts.append(unshadowed(inner, names))
        elif inner.terms:
            parts += unshadowed(inner, names).terms
        else:
            parts.append(renamed(inner, inner.name, f"{inner.name}.rest"))
    return changed(term, term.name, parts)


def renamed(term: Term, old: str, new: str) -> Term:
    """A term and all below it with another beginning of their names."""
    return changed(term, new + term.name.removeprefix(old), [renamed(inner, old, new) for inner in term.terms])


def changed(term: Term, name: str, terms: Iterable[Term]) -> Term:
    """The same term with another name and other parts."""
    return Term(name, term.value, term.unit, function=term.function, inputs=term.inputs, terms=terms,
                combines=term.combines, low=term.low, high=term.high, note=term.note)  # fmt: skip


# time


def time(estimate: TrainingEstimate) -> Term:
    """`time`: seconds of an optimizer step, each component with what it is made of."""
    given = estimate.time
    terms = [_component(estimate, term) for term in given.terms]
    found = total("time", terms, "s")
    found.low, found.high = given.range()
    return found


def compute_parts(estimate: TrainingEstimate) -> dict[str, Number]:
    """Seconds of a step's computation on the slowest stage, by kind of work; they sum to `time.compute`."""
    slowest, batches = estimate.found.step.slowest, estimate.layout.micro_batches
    work = {"matmul": slowest.matmul, "attention": slowest.attention, "memory_bound": slowest.memory,
            "recomputed": slowest.recomputed}  # fmt: skip
    found = {name: batches * seconds for name, seconds in work.items()}
    whole = next(term.value for term in estimate.time.terms if term.name == "time.compute")
    found["other"] = max(0.0, whole - sum(found.values()))
    return found


WORK = {
    "matmul": ("2 * rows * inputs * outputs / (peak * efficiency of the shape), or its bytes / bandwidth where longer",
               "calc/formulas/matmul.py: tiles, waves and short sides; shares of the peak in configs/efficiency.yaml"),
    "attention": ("score FLOPs / (16-bit peak * efficiency of head size and length)",
                  "calc/formulas/attention_time.py; shares of the peak in configs/efficiency.yaml"),
    "memory_bound": ("bytes read and written / (bandwidth * share) + kernels * start",
                     "calc/formulas/operator_bytes.py; norms, activations, rotation, residuals, routing"),
    "recomputed": ("forward work that the backward pass repeats", "training.recompute"),
    "other": ("layers * layer_overhead", "what no operator accounts for: configs/software.yaml, layer_overhead"),
}  # fmt: skip
"""Kind of work -> equation for one matrix or operator, and where it is computed."""
EXCHANGES = {"tensor_comm": ("tensor", "overlap_tensor"), "expert_comm": ("expert", "overlap_expert"),
             "context_comm": ("context", "overlap_context")}  # fmt: skip
"""Component -> what `StageTime` calls the exchange, and the constant that says how much of it is hidden."""
LINKS = "exchange: bytes over the group's links as calc/formulas/collectives.py places it"
OTHERS = {
    "pipeline_comm": ("bytes of a micro-batch's activations / link, less what is hidden", "overlap_pipeline",
                      "calc/formulas/traffic.py pipeline_traffic"),
    "data_comm": ("exposed(reduction, backward) + exposed(gathering, forward), exposed = max((1 - overlap) * exchange, "
                  "exchange - overlap * window)", "overlap_data", LINKS),
    "optimizer": ("bytes of states, gradients and weights read and written per device / (bandwidth * share)", "",
                  "calc/formulas/states.py step_traffic_bytes"),
    "offload": ("bytes to and from the host or NVMe / link, and the host's own step, less what is hidden", "",
                "calc/formulas/offload.py"),
    "scoring": ("sum over models of passes * forward share of a step of theirs", "", "calc/training/rl_time.py"),
    "critic": ("a step of the critic's own training", "", "calc/training/rl_time.py"),
}  # fmt: skip
"""Other components -> equation, constant of the profile, source."""
OVERHEADS = {
    "stragglers": ("(straggler factor - 1) * all other components", "jitter",
                   "calc/formulas/schedule.py straggler_factor"),
    "launches": ("micro_batches * max((1 - overlap) * launched, launched - overlap * device time), launched = kernels "
                 "* launch + layers * layer_overhead", "launch_overlap",
                 "calc/formulas/exposed.py; launch of the device in configs/efficiency.yaml"),
    "step": ("step_overhead", "step_overhead", "configs/software.yaml"),
}  # fmt: skip
"""Parts of `overhead`, the same."""


def _component(estimate: TrainingEstimate, term: Term) -> Term:
    """A component of the step with its equation, the numbers put in, and what it is made of."""
    key = term.name.rpartition(".")[2]
    step, layout, profile = estimate.found.step, estimate.layout, estimate.plan.parts.profile
    slowest, batches = step.slowest, layout.micro_batches
    if key == "compute":
        parts = compute_parts(estimate)
        inner = [Stated(f"time.compute.{name}", seconds, "s", source=WORK[name][1],
                        equation=f"micro_batches * sum over layers of {WORK[name][0]}",
                        inputs={"micro_batches": batches, "seconds_per_micro_batch": seconds / batches})
                 for name, seconds in parts.items() if seconds]  # fmt: skip
        return Stated(term.name, term.value, "s", equation="micro_batches * (forward + backward) of the slowest stage",
                      source="calc/training/step.py", terms=inner,
                      inputs={"micro_batches": batches, "forward": slowest.forward,
                              "backward": slowest.backward})  # fmt: skip
    if key in EXCHANGES:
        name, constant = EXCHANGES[key]
        assumed = getattr(profile, constant)
        hidden = step.hidden[name]
        return Stated(term.name, term.value, "s",
                      source=f"{section(exposed, 'Source')} {LINKS}. Overlap: {assumed.source}",
                      equation="micro_batches * max((1 - overlap) * exchange, exchange - overlap * compute)",
                      inputs={"micro_batches": batches, "exchange": getattr(slowest, name), "overlap": hidden,
                              "compute": slowest.compute})  # fmt: skip
    if key == "overhead":
        inner = [_stated(estimate, f"{term.name}.{name}", seconds, OVERHEADS[name])
                 for name, seconds in step.overheads().items()]  # fmt: skip
        return total(term.name, inner, "s")
    if key == "pipeline_bubble":
        return Stated(term.name, term.value, "s", equation=section(schedule.bubble_seconds, "Equation"),
                      source=section(schedule.bubble_seconds, "Source"),
                      inputs={"schedule": estimate.plan.schedule, "stages": layout.pipeline, "micro_batches": batches,
                              "chunks": layout.virtual, "forward": step.mean.forward,
                              "backward": step.mean.backward})  # fmt: skip
    if key not in OTHERS:
        return term
    return _stated(estimate, term.name, term.value, OTHERS[key])


def _stated(estimate: TrainingEstimate, name: str, seconds: Number, what: tuple[str, str, str]) -> Stated:
    """A component with an equation in words and the profile's constant behind it."""
    equation, constant, source = what
    assumed = getattr(estimate.plan.parts.profile, constant, None)
    inputs: dict[str, Any] = {"micro_batches": estimate.layout.micro_batches}
    if assumed is not None:
        inputs[constant] = assumed.value
        source = f"{source}. {constant}: {assumed.source}"
    return Stated(name, seconds, "s", equation=equation, source=source, inputs=inputs)


# FLOPs, throughput, run


def flop_terms(estimate: TrainingEstimate) -> Term:
    """`flops`: per token by matrix, per step, and by the conventions of others."""
    here, plan = estimate.token_flops, estimate.plan
    tokens = estimate.found.tokens
    model = plan.scenario.model
    name = "flops.model_per_token"
    forward = total(f"{name}.forward", _forward(estimate, f"{name}.forward"), "FLOP/token")
    backward = Stated(
        f"{name}.backward", here.backward, "FLOP/token", source=section(flops.backward_flops, "Source"),
        equation="2 * forward: gradients of inputs and of weights; of frozen matrices 1 * forward",
    )  # fmt: skip
    per_token = total(name, [forward, backward], "FLOP/token")
    per_step = Stated(
        "flops.model_per_step", here.model * tokens, "FLOP", equation="model_per_token * tokens",
        source="no recomputation; causal attention over the positions that are attended to",
        inputs={"model_per_token": here.model, "tokens": tokens},
    )  # fmt: skip
    hardware = Stated(
        "flops.hardware_per_step", here.hardware * tokens, "FLOP", equation="(model_per_token + recomputed) * tokens",
        source="what the devices compute: with what the backward pass computes again",
        inputs={"model_per_token": here.model, "recomputed": here.recomputed, "tokens": tokens},
    )  # fmt: skip
    others = [Stated(f"flops.conventions.{key}", value, "FLOP/token", equation=CONVENTIONS.get(key, key),
                     source="calc/formulas/flop_conventions.py")
              for key, value in flop_conventions.conventions(model, plan.length).items()]  # fmt: skip
    conventions = Stated("flops.conventions", here.model, "FLOP/token", equation="model_per_token, as others count it",
                         source="calc/formulas/flop_conventions.py", terms=others)  # fmt: skip
    return Stated("flops", per_step.value, "FLOP", equation="model_per_step",
                  terms=(per_token, per_step, hardware, conventions),
                  source="matrix multiplications, a multiply-add counted as 2")  # fmt: skip


CONVENTIONS = {
    "causal": "matrices and half the square of attention (model_per_token of full training)",
    "full": "matrices and the whole square of attention, windows cut",
    "6n": "6 * parameters of the matrices that a token passes, head included",
    "kaplan": "6 * parameters of the matrices that a token passes, head left out",
    "palm": "6 * N + 12 * layers * heads * head size * sequence: what mfu counts",
    "megatron-2021": "72 * L * h^2 * (1 + s / (6 h) + V / (12 L h)), of a GPT of that depth and width",
    "megatron-2021-recompute": "96 * L * h^2 * (1 + s / (6 h) + V / (16 L h)), of a GPT of that depth and width",
    "hoffmann": "with embedding and softmax, the whole square of attention",
    "deepseek-llm": "72 * L * h^2 + 12 * L * h * s, no vocabulary, of a GPT of that depth and width",
}  # fmt: skip
"""Convention -> what it counts."""


def _forward(estimate: TrainingEstimate, name: str) -> list[Term]:
    """A forward pass by matrix; what only the plan adds is one term."""
    plan = estimate.plan
    rows = flops.by_matrix(plan.scenario.model, plan.length)
    several = len({stack for stack, *_ in rows}) > 1
    found: list[Term] = []
    for stack, group, matrix, value in rows:
        how, source = "2 * inputs * outputs * layers * copies that a token uses", "multiply-add counted as 2"
        if matrix == "scores":
            how, source = (section(flops.score_flops, "Equation"), section(flops.score_flops, "Source"))
        elif matrix == "scan":
            how, source = "operations of the recurrence per token", "as each recurrent part declares them"
        path = f"{stack}.{group}" if several else group
        found.append(Stated(f"{name}.{path}.{matrix}", value, "FLOP/token", equation=how, source=source,
                            inputs={"sequence": plan.length}))  # fmt: skip
    rest = estimate.token_flops.forward - sum(term.value for term in found)
    if abs(rest) > 1e-9 * estimate.token_flops.forward:
        found.append(Stated(f"{name}.added", rest, "FLOP/token", equation="forward - sum of the matrices above",
                            source="adapters, padded experts, prediction of further tokens, another length of the "
                                   "encoder's input"))  # fmt: skip
    return found


def throughput(estimate: TrainingEstimate) -> Term:
    """`throughput`: tokens per second and shares of the peak, by convention."""
    rate, devices = estimate.tokens_per_s, estimate.layout.devices
    found: list[Term] = []
    utilization = flop_conventions.utilization
    for key, term in estimate.throughput.items():
        if term.unit == "1":
            scenario = estimate.scenario
            precision = scenario.hardware.half_format if key == "mfu_bf16" else estimate.plan.training.precision
            peak = _peak(estimate, precision)
            inputs = {"tokens_per_s": rate, "flops_per_token": term.value * devices * peak / rate, "devices": devices,
                      "peak": peak}  # fmt: skip
            found.append(Term(term.name, term.value, "1", function=utilization, inputs=inputs, note=term.note))
        elif key == "tokens_per_s":
            found.append(Stated(term.name, term.value, term.unit, equation="global_batch * sequence / time",
                                source="counting",
                                inputs={"global_batch": estimate.layout.global_batch, "time": estimate.time.value,
                                        "sequence": estimate.plan.training.sequence_length}))  # fmt: skip
        elif key == "tokens_per_s_per_device":
            found.append(Stated(term.name, term.value, term.unit, equation="tokens_per_s / devices", source="counting",
                                inputs={"tokens_per_s": rate, "devices": devices}))  # fmt: skip
        else:
            found.append(Stated(term.name, term.value, term.unit, equation="tokens_per_s * flops_per_token / devices",
                                source="flops.model_per_token: causal, no recomputation",
                                inputs={"tokens_per_s": rate, "flops_per_token": estimate.token_flops.model,
                                        "devices": devices}))  # fmt: skip
    return Stated("throughput", rate, "token/s", equation="tokens_per_s", source="counting", terms=found)


def _peak(estimate: TrainingEstimate, precision: str) -> float:
    """Dense peak of a device in a precision [FLOP/s]."""
    from calc.training.plan import peak_of

    return peak_of(estimate.scenario, precision)


def run(estimate: TrainingEstimate) -> Term:
    """`run`: all that applies to the run as a whole."""
    terms = estimate.run.terms
    whole = estimate.run.seconds or estimate.run.checkpoint
    low, high = whole.range()
    return Stated("run", whole.value, whole.unit, equation=whole.name, terms=terms, source="calc/training/run.py",
                  low=low, high=high)  # fmt: skip
