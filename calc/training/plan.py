"""A training scenario with everything decided: degrees, what is stored, what is recomputed, which constants hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from calc import constraints
from calc.architecture.model import weights_of
from calc.architecture.part import Scores, Weight
from calc.errors import BadValueError, MissingFactError
from calc.formulas import adapters, states
from calc.formulas.adapters import AdapterKind
from calc.formulas.flops import attended_keys, packed_length
from calc.formulas.storage import format_of
from calc.scenario import Scenario
from calc.specs.efficiency import Efficiency
from calc.specs.format_records import Format
from calc.specs.formats import format_named
from calc.specs.optimizer import Optimizer, optimizer_named
from calc.specs.plan import Layout
from calc.specs.recipe import Precision, Recipe, precision_named, recipe_named
from calc.specs.training_profile import TrainingProfile
from calc.specs.workload import Training
from calc.training.stages import Stage, Trained, stages, trained
from calc.xp import Number, minimum, round_up

SELECTIVE = ("core_attn",)
"""What `recompute: selective` means, as Megatron-LM's selective mode: attention scores."""
DEFAULT_RANK = 16
"""Rank of an adapter that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Records that a plan rests on."""

    profile: TrainingProfile
    recipe: Recipe
    precision: Precision
    optimizer: Optimizer
    efficiency: Efficiency


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A way of fine-tuning with less than all parameters."""

    kind: AdapterKind
    rank: int
    targets: frozenset[str]
    """What `calc.formulas.adapters.targets` makes of the names asked for."""
    names: tuple[str, ...]
    """Names of the model's weights that have one."""
    recipe: Recipe
    """What is stored of what is added."""
    format: str
    """Format of what is added."""
    dropout: float
    share: float = 1.0
    """Share of the model's own weights that are trained, where nothing is added."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """One training plan, or (where fields of `layout` are arrays) many: what every term is computed from.

    Not slotted: what is derived from the fields is kept, since every layer asks for it.
    """

    scenario: Scenario
    model: Trained
    layout: Layout
    parts: Parts
    sharding: str
    """none | zero1 | zero2 | zero3."""
    schedule: str
    sequence_parallel: bool
    """Whether the tensor group also shares what lies between its matrices along the sequence."""
    kernels: str
    """fused | eager."""
    recompute: str
    """none | full | modules."""
    modules: tuple[str, ...]
    """Recomputed modules where `recompute` is modules."""
    adapter: Adapter | None
    base: Format
    """Format of frozen weights."""
    ends: tuple[int, int] = (0, 0)
    """How many of embedding and head take a layer's place in the pipeline."""

    @property
    def training(self) -> Training:
        """The workload."""
        assert self.scenario.training is not None
        return self.scenario.training

    @property
    def computes_in(self) -> str:
        """Format of matrix multiplications: the workload's precision, or the recipe's own where that names one."""
        own = self.parts.precision
        return own.name.partition("-")[0] if own.low_roles else self.training.precision

    @cached_property
    def tokens(self) -> Number:
        """Tokens of a micro-batch on one device: its share of each sequence [token]."""
        return self.layout.micro_batch * self.training.sequence_length / self.layout.context

    @cached_property
    def data_group(self) -> Number:
        """Devices that hold the same part of a dense layer: replicas and context ranks."""
        return states.dense_group(self.layout.data, self.layout.context)

    @cached_property
    def expert_data_group(self) -> Number:
        """Devices that hold the same part of the same experts."""
        layout = self.layout
        return states.expert_group(layout.data, layout.context, layout.tensor, layout.expert, layout.expert_tensor)

    @property
    def stages(self) -> list[Stage]:
        """Stages whose contents can differ."""
        return stages(self.model, self.layout.pipeline, self.layout.virtual, self.ends)

    @cached_property
    def vocabulary_padding(self) -> Number:
        """Multiple that the vocabulary is padded to: Megatron-LM's is 128 per tensor rank."""
        multiple = self.parts.profile.vocabulary_multiple
        return multiple * self.layout.tensor if multiple > 1 else 1

    @cached_property
    def padded_vocabulary(self) -> Number:
        """Vocabulary as the framework pads it."""
        return round_up(self.scenario.model.vocab_size, self.vocabulary_padding)

    @cached_property
    def frozen(self) -> bool:
        """Whether the model's own weights get no gradient."""
        return self.adapter is not None and self.adapter.kind.freezes_base

    @property
    def trained_share(self) -> float:
        """Share of the model's own weights that are trained."""
        return 1.0 if self.adapter is None else self.adapter.share

    @cached_property
    def quantized(self) -> bool:
        """Whether frozen weights are stored in fewer than 16 bits."""
        return self.frozen and self.base.bits < 16

    @property
    def trained_recipe(self) -> Recipe:
        """What is stored of what is trained: the adapter's weights, or the model's own."""
        return self.adapter.recipe if self.adapter is not None and self.frozen else self.parts.recipe

    @property
    def element_bytes(self) -> float:
        """Bytes of an activation's element; 8-bit formats are made from 16-bit activations [byte]."""
        return 4.0 if self.training.precision in ("fp32", "tf32") else 2.0

    def offloads(self, what: str) -> bool:
        """Whether optimizer, parameters or activations are kept off the device."""
        return what in self.scenario.parallel.offload

    def base_format(self, weight: Weight) -> Format:
        """Format that a frozen weight is stored in."""
        return format_of(self.base, weight)

    @cached_property
    def length(self) -> Number:
        """Tokens that can meet each other: the sequence, or of packed documents one like their mean [token]."""
        training = self.training
        if training.mean_length is None:
            return training.sequence_length
        return packed_length(training.mean_length, training.sequence_length)

    def keys(self, scores: Scores) -> Number:
        """Keys that a query meets, the mean over a sequence [token]."""
        return attended_keys(self.length, scores.window, scores.causal) / scores.stride

    @cached_property
    def imbalance(self) -> Number:
        """Load of the busiest device's experts, of the balanced one; what capacity pads to, where there is one."""
        training = self.training
        if training.capacity_factor is not None:
            return training.capacity_factor
        if training.expert_imbalance is not None:
            return training.expert_imbalance
        return self.parts.profile.expert_imbalance.value

    @cached_property
    def repeats(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """What backward computes again: mode (none, full, modules), modules, and what a full repetition keeps.

        Frameworks whose selective mode is by operator repeat each layer but for some results (`recompute_saves`).
        """
        saves = self.parts.profile.recompute_saves
        if saves and "core_attn" in self.modules:
            return "full", (), saves
        return self.recompute, self.modules, ()

    @property
    def recomputed_share(self) -> Number:
        """Share of a stage's layers that full recomputation repeats."""
        asked = self.training.recompute_layers
        if asked is None:
            return 1
        held = self.model.num_layers / self.layout.pipeline
        return minimum(1, asked / held)

    @property
    def gather_bytes(self) -> float:
        """Bytes per weight element that sharded weights are gathered in."""
        given = self.parts.profile.gather_bytes
        return self.parts.recipe.weight_bytes if given is None else given


def decide(scenario: Scenario) -> tuple[Plan, tuple[str, ...]]:
    """The plan of a scenario, with notes on what was derived.

    Raises
    ------
    CalcError
        It can't be laid out, or names what doesn't exist, or what the device doesn't compute in.
    """
    training = scenario.training
    assert training is not None
    layout, ends, notes = constraints.training_layout(scenario)
    parts = _parts(scenario)
    peak_of(scenario, training.precision)  # refuses a precision that the device doesn't compute in
    mode, modules = recompute_mode(training.recompute)
    shares = scenario.parallel.sequence
    adapter = _adapter(scenario, parts.recipe)
    schedule = scenario.parallel.schedule
    plan = Plan(
        scenario=scenario, model=trained(scenario.model, training.mtp), layout=layout, parts=parts,
        sharding=scenario.parallel.sharding or parts.profile.sharding,
        schedule="interleaved" if schedule == "1f1b" and scenario.parallel.virtual_pipeline > 1 else schedule,
        sequence_parallel=parts.profile.sequence_parallel_default if shares is None else shares,
        kernels=training.kernels or parts.profile.kernels, recompute=mode, modules=modules, adapter=adapter,
        base=_base(scenario, adapter), ends=(ends // 2, ends - ends // 2),
    )  # fmt: skip
    peak_of(scenario, plan.computes_in)
    return plan, notes


def _parts(scenario: Scenario) -> Parts:
    """The records that a scenario names, or that its software prefers."""
    training, profile, efficiency = scenario.training, scenario.profile, scenario.efficiency
    assert training is not None and profile is not None and efficiency is not None
    optimizer = optimizer_named(training.optimizer)
    precision = precision_named(training.precision)
    recipe = recipe_named(training.recipe or optimizer.recipe or precision.recipe or profile.recipe)
    if recipe.precision is not None and recipe.precision != precision.name:
        precision = precision_named(recipe.precision)
    return Parts(profile=profile, recipe=recipe, precision=precision, optimizer=optimizer, efficiency=efficiency)


def _adapter(scenario: Scenario, recipe: Recipe) -> Adapter | None:
    """What `training.adapter` asks for."""
    training = scenario.training
    assert training is not None
    given = training.adapter
    if given is None:
        return None
    kind = adapters.adapter_kind(str(given.get("kind", "lora")))
    targets = adapters.targets(given.get("targets") or (adapters.ALL_LINEAR,))
    weights = [weight for stack in scenario.model.text_stacks for _, weight, _ in weights_of(stack)]
    if adapters.untouched(kind.name, targets, weights):
        able = sorted({weight.name for weight in weights if weight.role in adapters.MATRICES})
        asked = ", ".join(given.get("targets") or targets)
        raise BadValueError(f"training.adapter.targets {asked} names no matrix of "
                            f"{scenario.model.name}; its matrices are {', '.join(able)}")  # fmt: skip
    names = {weight.name for stack in scenario.model.text_stacks for part, weight, _ in weights_of(stack)
             if adapters.is_target(weight.name, weight.role, targets, adapters.is_fused(part))}  # fmt: skip
    form = str(given.get("format") or (scenario.profile.adapter_format if scenario.profile else "fp32"))
    stored = recipe_named("fp32") if form == "fp32" else recipe  # a 16-bit adapter is stored as any trained weight is
    return Adapter(kind=kind, rank=int(given.get("rank", DEFAULT_RANK)), targets=targets, format=form,
                   names=tuple(sorted(names)), recipe=stored,
                   dropout=given.get("dropout", 0.0), share=adapters.trained_share(kind.name, given.get("share")),
                   )  # fmt: skip


def _base(scenario: Scenario, adapter: Adapter | None) -> Format:
    """The format of frozen weights: asked for, or the method's, or the 16-bit one computed in."""
    training = scenario.training
    assert training is not None
    kind = adapter.kind if adapter is not None and adapter.kind.freezes_base else None
    if training.base_format is not None and kind is None:
        raise BadValueError("training.base_format is the format of frozen weights: it needs an adapter "
                            "(training.adapter.kind: lora)")  # fmt: skip
    return format_named(training.base_format or (kind.base_format if kind else None) or plain_format(training))


def plain_format(training: Training) -> str:
    """The format of weights that are neither trained nor quantized."""
    return training.precision if training.precision in ("fp16", "fp32") else "bf16"


def recompute_mode(asked: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The mode and the modules that `training.recompute` means.

    Examples
    --------
    >>> recompute_mode(("selective",)), recompute_mode(("full",))
    (('modules', ('core_attn',)), ('full', ()))
    """
    words = tuple(word for word in asked if word != "none")
    if not words:
        return "none", ()
    if "full" in words:
        if len(words) > 1:
            others = ", ".join(word for word in words if word != "full")
            raise BadValueError(f"training.recompute full is everything: it can't be joined with {others}")
        return "full", ()
    names = [name for word in words for name in (SELECTIVE if word == "selective" else (word,))]
    return "modules", tuple(dict.fromkeys(names))


PEAK_OF = {"mxfp8": "fp8", "nvfp4": "fp4", "mxfp4": "fp4"}
"""Precision -> the key of a device's `peak` that it runs at, where they differ."""


def peak_of(scenario: Scenario, precision: str) -> float:
    """Dense peak of a device in a precision [FLOP/s].

    Raises
    ------
    BadValueError
        The device doesn't compute in it.
    MissingFactError
        The record doesn't say how fast.
    """
    peaks: Mapping[str, Any] = scenario.hardware.peak
    name = PEAK_OF.get(precision, precision)
    if name not in peaks:
        able = [known for known in ("fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4", "mxfp4")
                if PEAK_OF.get(known, known) in peaks]  # fmt: skip
        raise BadValueError(f"{scenario.hardware.name} does not compute in {precision}; training.precision could be "
                            f"{', '.join(able)}")  # fmt: skip
    if peaks[name] is None:
        raise MissingFactError(f"{scenario.hardware.name} has no peak for {precision}; give hardware.peak.{name}")
    return float(peaks[name])
