"""Accelerators and the nodes they sit in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from calc.specs.fields import entry, key

PEAKS = {name: entry("flop/s?", minimum=1) for name in ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp6", "fp4",
                                                       "int8", "int4")}  # fmt: skip
LINK = {"type": entry("text?"), "bandwidth": entry("bytes/s?", minimum=1), "topology": entry("text?")}
PRICE = {"usd_per_hour": entry("any"), "date": entry("any"), "source": entry("any")}
SLICES = {"*": entry("mapping", entries={"share": entry("share", minimum=1e-6, maximum=1),
                                         "memory": entry("bytes", minimum=1)})}  # fmt: skip
NVME = {
    "capacity": entry("bytes?", minimum=1),
    "read": entry("bytes/s?", minimum=1),
    "write": entry("bytes/s?", minimum=1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One device as its record in `configs/hardware/` describes it. Peaks are dense; rates per direction."""

    name: str = key("name", "custom", doc="catalogue name")
    title: str = key("text", "", doc="name for people")
    kind: str = key("name", "gpu", choices=("gpu", "tpu", "npu", "apple", "apu", "cpu"), doc="what sort of device")
    vendor: str = key("text", "", doc="who makes it")
    year: float | None = key("count?", None, doc="year of release")
    capacity: float | None = key("bytes?", None, path="memory.capacity", minimum=1, doc="memory as sold [byte]")
    usable: float | None = key("bytes?", None, path="memory.usable", minimum=1,
                               doc="memory the device reports as its total [byte]")  # fmt: skip
    bandwidth: float | None = key("bytes/s?", None, path="memory.bandwidth", minimum=1, doc="memory bandwidth [byte/s]")
    memory_type: str | None = key("text?", None, path="memory.type", doc="kind of memory")
    peak: dict[str, Any] = key("mapping", entries=PEAKS, doc="dense peak per format [FLOP/s]")
    link: dict[str, Any] | None = key("mapping?", None, entries=LINK,
                                      doc="device to device inside a node: type, bandwidth [byte/s]")  # fmt: skip
    host_link: dict[str, Any] | None = key("mapping?", None, entries=LINK,
                                           doc="device to host: type, bandwidth [byte/s]")  # fmt: skip
    network: float | None = key("bytes/s?", None, minimum=1, doc="network bandwidth per device [byte/s]")
    power: float | None = key("watts?", None, doc="thermal design power [W]")
    efficiency: str = key(
        "name", "generic", doc="generation in configs/efficiency.yaml: what share of its peaks it reaches"
    )
    compute_units: float | None = key("count?", None, doc="multiprocessors, compute units or cores")
    l2_cache: float | None = key("bytes?", None, doc="last-level cache [byte]")
    node: str | None = key("name?", None, doc="usual node, a name in configs/clusters")
    price: dict[str, Any] | None = key("mapping?", None, entries=PRICE, doc="usd_per_hour {low, high}, date, source")
    slices: dict[str, Any] | None = key("mapping?", None, entries=SLICES, doc="MIG profiles: name -> {share, memory}")
    derived: dict[str, Any] | None = key("mapping?", None, doc="figures that no source states, and from what they are")
    conflicts: Any = key("any", None, doc="where sources differ, what was chosen and why")
    notes: Any = key("any", None, doc="what bites")
    sources: Any = key("any", None, doc="where the figures are from")
    accessed: Any = key("any", None, doc="when the sources were read")
    origin: str = field(default="")
    """File that it was read from."""

    @property
    def total_bytes(self) -> float | None:
        """What the device shows as its total memory [byte]: measured, or else as sold."""
        return self.usable or self.capacity

    @property
    def usd_per_hour(self) -> tuple[float, float] | None:
        """Low and high of the hourly price, where the record has one."""
        rates = (self.price or {}).get("usd_per_hour")
        return (float(rates["low"]), float(rates["high"])) if isinstance(rates, dict) else None

    def computes(self, format_name: str) -> bool:
        """Whether the device multiplies in a format itself."""
        return format_name in self.peak

    @property
    def half_format(self) -> str:
        """The format that stands for 16-bit ones on it: bf16 where it computes in that, else fp16, else fp32."""
        return next((name for name in ("bf16", "fp16") if self.computes(name)), "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A node and its network, as its record in `configs/clusters/` describes it."""

    name: str = key("name", "", doc="catalogue name")
    title: str = key("text", "", doc="name for people")
    hardware: str | None = key("name?", None, doc="the device it holds")
    devices_per_node: int = key("count", 8, whole=True, minimum=1, doc="devices that share a node")
    node_link: dict[str, Any] | None = key("mapping?", None, entries=LINK,
                                           doc="type, bandwidth per direction [byte/s], topology")  # fmt: skip
    nic_per_device: float | None = key(
        "bytes/s?", None, minimum=1, doc="network bandwidth per device and direction [byte/s]"
    )
    host_memory: float | None = key("bytes?", None, minimum=1, doc="host memory per node [byte]")
    host_memory_bandwidth: float | None = key(
        "bytes/s?", None, minimum=1, doc="host memory bandwidth per node [byte/s]"
    )
    host_cores: float | None = key("count?", None, doc="host cores per node")
    nvme: dict[str, Any] | None = key("mapping?", None, entries=NVME,
                                      doc="capacity [byte], read and write [byte/s] per node")  # fmt: skip
    mtbf: float | None = key("seconds?", None, minimum=1, doc="mean time between failures of one device [s]")
    larger: str | None = key("name?", None, doc="node that holds more devices, taken where they are more than these")
    derived: dict[str, Any] | None = key("mapping?", None, doc="figures that no source states, and from what they are")
    notes: Any = key("any", None, doc="what bites")
    sources: Any = key("any", None, doc="where the figures are from")
    accessed: Any = key("any", None, doc="when the sources were read")
