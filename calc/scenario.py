"""The noun that everything else takes: a model, the devices it runs on, and what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from calc.architecture.model import Model
from calc.specs.hardware import Cluster, Hardware
from calc.specs.plan import Parallel
from calc.specs.software import Software
from calc.specs.workload import Inference, Training

if TYPE_CHECKING:  # what `fit` needs no classes of
    from calc.specs.efficiency import Efficiency
    from calc.specs.rl import RL
    from calc.specs.run import Cost, Reliability
    from calc.specs.training_profile import TrainingProfile

TASKS = ("pretrain", "finetune", "infer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Tuning on preferences or rewards, with every name resolved."""

    rl: RL
    models: Mapping[str, Model] = field(default_factory=dict)
    """Role -> its model, where it isn't one of the policy's own size."""
    engine: Software | None = None
    """What generates responses; None where nothing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One question, with every name resolved to what it names."""

    name: str
    task: str
    """One of `TASKS`."""
    model: Model
    hardware: Hardware
    cluster: Cluster
    """The node that the devices sit in; decides how many share the fast link."""
    devices: int | None
    """Accelerators used; None follows from the degrees given."""
    software: Software
    parallel: Parallel
    inference: Inference = field(default_factory=Inference)
    training: Training | None = None
    profile: TrainingProfile | None = None
    """How the software trains; None where nothing is trained."""
    efficiency: Efficiency | None = None
    """What share of its figures the device reaches; None where no time is asked for."""
    given_cost: Cost | None = None
    """The section `cost`; None where there is none."""
    given_reliability: Reliability | None = None
    """The section `reliability`; None where there is none."""
    tuning: Tuning | None = None
    """The `rl` section; None where the data are all there is to learn from."""
    reserved: float = 0.0
    """Memory already in use on each device [byte]."""
    text_only: bool = False
    """Whether vision and audio towers stay unloaded."""
    asked: tuple[str, str] | None = None
    """Model and device as they were written, to write them again; None where one is an inline mapping."""
    notes: tuple[str, ...] = ()
    """What was inferred while reading it."""

    @property
    def sequences(self) -> int:
        """Sequences of one sample of a batch: two where it is a pair of chosen and rejected."""
        return 1 if self.tuning is None else self.tuning.rl.how.sequences

    @property
    def cost(self) -> Cost:
        """Money, energy and carbon: as given, or by default."""
        from calc.specs.run import Cost  # `fit` needs none of it

        return self.given_cost or Cost()

    @property
    def reliability(self) -> Reliability:
        """Failures and checkpoints: as given, or by default."""
        from calc.specs.run import Reliability

        return self.given_reliability or Reliability()

    @property
    def total_bytes(self) -> float:
        """What a device shows as its total memory [byte]."""
        total = self.hardware.total_bytes
        assert total is not None, "load.hardware refuses a record without memory"
        return total

    @property
    def utilization(self) -> float:
        """Share of the device that the engine may take: the scenario's, else the profile's, else all [1]."""
        given = self.inference.memory_utilization
        return given or self.software.memory_utilization or 1.0

    @property
    def usable_bytes(self) -> float:
        """What the estimate may use of a device: its total, less what is reserved, times the engine's share [byte]."""
        return max(0.0, self.total_bytes - self.reserved) * self.utilization
