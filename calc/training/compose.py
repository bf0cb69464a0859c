"""A training scenario to its estimate: memory, time, FLOPs, throughput, run, and what stands against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from calc.formulas import flop_conventions, flops
from calc.formulas.flops import TokenFlops, Trainable
from calc.ledger import Term, total
from calc.scenario import Scenario
from calc.specs.plan import Layout
from calc.training.evaluate import Evaluation, evaluate
from calc.training.offload import capacities
from calc.training.plan import Plan, decide, peak_of
from calc.training.run import Run, run_terms
from calc.training.stage_memory import StageMemory
from calc.units import format_bytes
from calc.xp import Number, ceil_div

if TYPE_CHECKING:
    from calc.training.advise import Advice
    from calc.training.phases import Phase


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingEstimate:
    """The answer to one training scenario; every output format renders it."""

    found: Evaluation
    time: Term
    """`time`: seconds of an optimizer step, with its range."""
    token_flops: TokenFlops
    """FLOPs per token: forward, backward, recomputed."""
    run: Run
    problems: tuple[tuple[str, str], ...] = ()
    """Pairs of a code and a sentence; empty where the scenario is feasible."""
    notes: tuple[str, ...] = ()
    """What was inferred, and what to know."""
    phases: tuple[Phase, ...] = ()
    """What tuning on preferences or rewards runs in turn; empty where the data are all there is to learn from."""

    @property
    def plan(self) -> Plan:
        """The scenario with everything decided."""
        return self.found.plan

    @property
    def scenario(self) -> Scenario:
        """What was asked."""
        return self.plan.scenario

    @property
    def layout(self) -> Layout:
        """Every degree of parallelism, decided."""
        return self.plan.layout

    @property
    def phase(self) -> Phase | None:
        """The phase that needs most; None where nothing takes turns."""
        return max(self.phases, key=lambda phase: float(phase.needed), default=None)

    @property
    def worst(self) -> StageMemory:
        """The fullest device, of the phases that take turns the one that needs most."""
        return self.found.worst if self.phase is None else self.phase.memory

    @property
    def memory(self) -> Term:
        """The ledger of the fullest device."""
        return self.worst.memory

    @property
    def feasible(self) -> bool:
        """Whether it fits: devices, host, NVMe."""
        return not self.problems

    @property
    def usable_bytes(self) -> float:
        """What the estimate may use of a device [byte]."""
        return self.scenario.usable_bytes

    @property
    def tokens_per_s(self) -> Number:
        """Tokens per second of all devices."""
        return self.found.tokens / self.time.value

    @cached_property
    def flops(self) -> dict[str, Term]:
        """`flops`: what the model needs per token and per step, and what the hardware computes."""
        here, tokens = self.token_flops, self.found.tokens
        how = "forward and backward, multiply-add as 2, causal attention over what is attended to"
        terms = (
            Term("flops.model_per_token", here.model, "FLOP/token", note=how),
            Term("flops.model_per_step", here.model * tokens, "FLOP", note=f"{how}; per token x tokens of a step"),
            Term("flops.hardware_per_step", here.hardware * tokens, "FLOP", note="and what is computed again"),
        )
        return {term.name.rpartition(".")[2]: term for term in terms}

    @cached_property
    def throughput(self) -> dict[str, Term]:
        """`throughput`: tokens per second and shares of the peak, by convention."""
        plan, scenario = self.plan, self.scenario
        rate, devices = self.tokens_per_s, self.layout.devices
        precision = plan.computes_in
        peak = peak_of(scenario, precision)
        per_token = flop_conventions.mfu_flops(scenario.model, plan.training.sequence_length)
        mode, modules, saves = plan.repeats
        again = flop_conventions.recomputed_mfu_flops(
            scenario.model, plan.training.sequence_length, mode=mode, modules=modules, saves=saves,
            rule=plan.parts.profile.recompute_rule, share=plan.recomputed_share)  # fmt: skip
        achieved = rate / devices
        found = {
            "tokens_per_s": Term("throughput.tokens_per_s", rate, "token/s"),
            "tokens_per_s_per_device": Term("throughput.tokens_per_s_per_device", achieved, "token/s"),
            "model_flops_per_s_per_device": Term("throughput.model_flops_per_s_per_device",
                                                 achieved * self.token_flops.model, "FLOP/s"),
            "mfu": Term("throughput.mfu", achieved * per_token / peak, "1",
                        note="PaLM: 6 N and the whole square of attention"),
            "mfu_causal": Term("throughput.mfu_causal", achieved * self.token_flops.model / peak, "1",
                               note="flops.model_per_token: causal attention counts half"),
            "hfu": Term("throughput.hfu", achieved * (per_token + again) / peak, "1",
                        note="as mfu, with what is computed again"),
        }  # fmt: skip
        half = scenario.hardware.half_format
        if precision in ("fp8", "mxfp8", "nvfp4", "mxfp4") and scenario.hardware.peak.get(half):
            found["mfu_bf16"] = Term("throughput.mfu_bf16", achieved * per_token / float(scenario.hardware.peak[half]),
                                     "1", note="as mfu, of the 16-bit peak")  # fmt: skip
        return found

    @cached_property
    def advice(self) -> tuple[Advice, ...]:
        """Single changes that make it fit, or, where it fits, make it faster."""
        from calc.training.advise import advice

        return tuple(advice(self))

    @property
    def host_bytes(self) -> Number:
        """What is kept in host memory, all nodes together [byte]."""
        return self.elsewhere("host")

    @property
    def nvme_bytes(self) -> Number:
        """What is kept on NVMe, all nodes together [byte]."""
        return self.elsewhere("nvme")

    def elsewhere(self, tier: str) -> Number:
        """What is kept on `host` or `nvme`, all nodes together [byte]."""
        if self.phases:
            return max(phase.memory.elsewhere(tier) * phase.devices for phase in self.phases)
        return self.worst.elsewhere(tier) * self.layout.devices


def training_estimate(scenario: Scenario) -> TrainingEstimate:
    """The estimate of a training scenario.

    Raises
    ------
    CalcError
        It can't be laid out, or names what doesn't exist, or a record lacks what the time needs.
    """
    if scenario.tuning is not None:
        return _tuned(scenario)
    plan, notes = decide(scenario)
    found = evaluate(plan)
    time = time_term(found)
    run = run_terms(found, time)
    return TrainingEstimate(
        found=found, time=time, token_flops=_token_flops(plan), run=run, problems=tuple(problems(found)),
        notes=(*scenario.notes, *scenario.model.notes, *notes, *_notes(plan)),
    )  # fmt: skip


def _tuned(scenario: Scenario) -> TrainingEstimate:
    """The estimate of tuning on preferences or rewards: training of the policy, and what takes turns with it."""
    from calc.training.phases import phases
    from calc.training.rl_models import prepared

    plan, notes = decide(prepared(scenario))
    found = evaluate(plan)
    around = phases(found)
    time = time_term(found, around.seconds)
    return TrainingEstimate(
        found=found, time=time, token_flops=_token_flops(plan), run=run_terms(found, time), problems=around.problems,
        notes=(*scenario.notes, *scenario.model.notes, *notes, *around.notes, *_notes(plan)), phases=around.phases,
    )  # fmt: skip


def time_term(found: Evaluation, beside: Mapping[str, Number] | None = None) -> Term:
    """`time`: the components of a step, and the range that measured runs of such devices leave around it."""
    parts = {**found.step.components(), **(beside or {})}
    term = total("time", [Term(f"time.{name}", value, "s") for name, value in parts.items()], "s")
    efficiency = found.plan.parts.efficiency
    low, high = efficiency.time_range
    term.low, term.high = term.value * low, term.value * high
    return term


def _token_flops(plan: Plan) -> TokenFlops:
    """FLOPs per token of the plan."""
    adapter, training = plan.adapter, plan.training
    trainable = flops.EVERYTHING
    if adapter is not None:
        trainable = Trainable(share=0.0 if plan.frozen else adapter.share, rank=adapter.rank if plan.frozen else 0,
                              targets=tuple(sorted(adapter.targets)) if plan.frozen else ())  # fmt: skip
    mode, modules, saves = plan.repeats
    return flops.token_flops(
        plan.scenario.model, plan.length, trainable=trainable, mtp=1 if training.mtp else 0,
        capacity=training.capacity_factor or 1, mode=mode, modules=modules, saves=saves,
        rule=plan.parts.profile.recompute_rule, recomputed_share=plan.recomputed_share)  # fmt: skip


def problems(found: Evaluation) -> list[tuple[str, str]]:
    """What stands against a plan: pairs of a code and a sentence."""
    scenario, layout, worst = found.plan.scenario, found.plan.layout, found.worst
    needed, usable = worst.memory.value, scenario.usable_bytes
    listed = []
    if needed > usable:
        when = f"at {worst.instant.name.rpartition('.')[2]}"
        where = f"{worst.label}, {when}" if layout.pipeline > 1 else when
        amounts = f"needs {format_bytes(needed)} per device ({where}), {format_bytes(usable)} usable"
        listed.append(("out_of_memory", amounts))
    nodes = ceil_div(layout.devices, scenario.cluster.devices_per_node)
    for code, title, tier, there in capacities(scenario.cluster):
        here = worst.elsewhere(tier) * layout.devices
        if here and there is not None and here > there * nodes:
            listed.append((code, f"needs {format_bytes(here)} of {title}, {format_bytes(there * nodes)} there is"))
    return listed


def _notes(plan: Plan) -> list[str]:
    """What to know about the plan."""
    scenario, layout, training = plan.scenario, plan.layout, plan.training
    found = []
    layers, stages = plan.model.num_layers, int(layout.pipeline)
    if layers % stages and not any(plan.ends):
        found.append(f"{layers} layers over {stages} stages: the first {layers % stages} stages hold one more")
    heads = [scores.kv_heads or scores.heads for kind in plan.model.kinds for part in kind.layer.parts
             for scores in part.scores() if scores.split]  # fmt: skip
    if heads and min(heads) < layout.tensor:
        found.append(f"{min(heads)} KV heads over tensor {layout.tensor}: each is kept on several devices")
    limit = scenario.model.context_limit or scenario.model.max_positions
    if limit is not None and training.sequence_length > limit:
        found.append(f"sequences of {training.sequence_length:,} tokens are longer than the {limit:,} the model was "
                     "made for")  # fmt: skip
    if not plan.parts.efficiency.measured:
        found.append(f"times are extrapolated: no measured training run on {scenario.hardware.name} stands behind them")
    if any(stack.name in ("vision", "audio") for stack in scenario.model.stacks):
        found.append("the text model is trained; its towers are left out")
    return found
