"""How a model is laid over devices: the `parallel` section of a scenario."""

from __future__ import annotations

from dataclasses import dataclass

from calc.specs.fields import key
from calc.xp import Number

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zero_bubble", "zb-2p", "zb-v", "dualpipe", "dualpipev")
SHARDINGS = ("none", "zero1", "zero2", "zero3")
OFFLOADS = ("none", "optimizer", "parameters", "activations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """Degrees of parallelism as a scenario gives them; None is 'not given'."""

    data: Number | None = key("count?", None, whole=True, minimum=1, doc="data-parallel replicas; derived if absent")
    tensor: Number | None = key("count?", None, whole=True, minimum=1, doc="devices that share each matrix")
    sequence: bool | None = key("flag?", None, doc="sequence parallelism in the tensor group; true if tensor > 1")
    pipeline: Number | None = key("count?", None, whole=True, minimum=1, doc="pipeline stages")
    virtual_pipeline: Number = key("count", 1, whole=True, minimum=1, doc="interleaved chunks per stage")
    uneven: bool = key("flag", False, doc="whether chunks may hold differing numbers of layers")
    schedule: str = key("name", "1f1b", choices=SCHEDULES, doc="pipeline schedule")
    context: Number = key("count", 1, whole=True, minimum=1, doc="devices that share each sequence")
    expert: Number = key("count", 1, whole=True, minimum=1, doc="devices that share a layer's experts")
    expert_tensor: Number | None = key("count?", None, whole=True, minimum=1, doc="devices that share one expert")
    sharding: str | None = key("name?", None, choices=SHARDINGS, doc="ZeRO stage; default the software's")
    shard_group: Number | None = key("count?", None, whole=True, minimum=1, doc="devices that share one sharded copy")
    offload: tuple[str, ...] = key("texts", ("none",), choices=OFFLOADS, doc="what is kept off the device")
    offload_to: str = key("name", "cpu", choices=("cpu", "nvme"), doc="where it is kept")
    context_kind: str = key("name", "ring", choices=("ring", "all_gather", "ulysses"),
                            doc="how context parallelism exchanges keys and values")  # fmt: skip
    zeropp: tuple[str, ...] = key("texts", (), choices=("hpz", "qwz", "qgz"),
                                  doc="ZeRO++: weights kept per node, quantized weights or gradients")  # fmt: skip
    node_limit: Number | None = key("count?", None, whole=True, minimum=1,
                                    doc="nodes that a token's experts lie in at most")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A plan with every degree decided. Fields may be numbers or equal-length arrays."""

    data: Number = 1
    """Replicas, each with its share of the batch."""
    tensor: Number = 1
    """Devices that share each matrix."""
    pipeline: Number = 1
    """Stages, each with its share of the layers."""
    context: Number = 1
    """Devices that share each sequence."""
    expert: Number = 1
    """Devices that the experts of a layer are spread over."""
    expert_tensor: Number = 1
    """Devices that share one expert."""
    virtual: Number = 1
    """Interleaved chunks of layers per stage."""
    micro_batch: Number = 1
    """Sequences per pass of a replica."""
    global_batch: Number = 1
    """Sequences per optimizer step, all replicas."""

    @property
    def micro_batches(self) -> Number:
        """Passes of a replica per optimizer step."""
        return self.global_batch / (self.data * self.micro_batch)

    @property
    def devices(self) -> Number:
        """Devices in all."""
        return self.stage_devices * self.pipeline

    @property
    def stage_devices(self) -> Number:
        """Devices of one pipeline stage, all replicas: what experts are spread over."""
        return self.data * self.tensor * self.context
