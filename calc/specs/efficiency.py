"""What share of its datasheet a device generation reaches, kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calc.errors import BadValueError, shown
from calc.specs.fields import entry, key

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp8", "mxfp8", "nvfp4", "mxfp4", "int8")
"""Formats that matrices are multiplied in."""

PEAK_OF = {"mxfp8": "fp8", "nvfp4": "fp4", "mxfp4": "fp4"}
"""Formats that run at another's rate: precision -> key of a hardware record's `peak`."""

UNMEASURED = (0.6, 1.6)
"""Range of a step time, as factors, where no measured run stands behind a generation."""

SHARE = entry("share", minimum=1e-6, maximum=1)
KERNEL = entry("mapping", entries={"forward": SHARE, "backward": SHARE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """One device generation of `configs/efficiency.yaml`. Shares are of the hardware record's figures."""

    name: str = key("name", "", doc="catalogue name")
    title: str = key("text", "", doc="what it stands for")
    measured: bool = key("flag", False, doc="whether measured training runs stand behind it; else extrapolated")
    matmul: dict[str, Any] = key("mapping", {}, entries=dict.fromkeys(PRECISIONS, SHARE),
                                 doc="format -> share of the dense peak that large products reach")  # fmt: skip
    tiles: dict[str, Any] = key("mapping", {}, entries={"*": SHARE},
                                doc="rows x columns of a kernel's tile -> share of the best one's rate")  # fmt: skip
    tail: float = key("share", 0.5, maximum=1, doc="part of a last, incomplete wave of tiles that is lost")
    depth: float = key("count", 64, doc="inner elements that filling and draining a tile's pipeline costs")
    alignment: float = key("bytes", 128, minimum=1, doc="rows of a matrix starting on multiples of it are read best")
    coarse_alignment: float = key("bytes", 16, minimum=1, doc="off multiples of this, matrix units are hard to feed")
    misaligned: float = key("share", 0.92, minimum=1e-6, maximum=1, doc="rate off `alignment`, of the full")
    unaligned: float = key("share", 0.5, minimum=1e-6, maximum=1, doc="rate off `coarse_alignment`, of the full")
    unaligned_batch: float = key("share", 0.06, minimum=1e-6, maximum=1,
                                 doc="the same in a batch, whose matrices themselves start off it")  # fmt: skip
    grouped: float = key("share", 0.85, minimum=1e-6, maximum=1,
                         doc="rate of several products in one launch, as of experts, of that of one")  # fmt: skip
    attention: dict[str, Any] = key("mapping", {}, entries={"*": KERNEL},
                                    doc="fused attention kernel -> {forward, backward}: share of the 16-bit peak, for "
                                        "long sequences and wide heads")  # fmt: skip
    attention_head: float = key("count", 32, doc="width whose products take as long as the softmax of one score")
    attention_multiple: float = key("count", 32, minimum=1, doc="heads are padded to a multiple of this width")
    attention_keys: float = key("count", 200, doc="keys that starting and ending a block of queries costs, forward")
    attention_keys_backward: float = key("count", 300, doc="the same, backward")
    memory: float = key("share", 0.8, minimum=1e-6, maximum=1, doc="share of the memory bandwidth")
    kernel: float = key("seconds", 0, doc="time that a kernel takes to start and end on the device")
    launch: float = key("seconds", 0, doc="host time to launch a kernel")
    link: float = key("share", 0.8, minimum=1e-6, maximum=1, doc="share of the link inside a node")
    pcie: float = key("share", 0.5, minimum=1e-6, maximum=1, doc="the same where devices share PCIe")
    network: float = key("share", 0.8, minimum=1e-6, maximum=1, doc="share of the network bandwidth")
    link_latency: float = key("seconds", 0, doc="latency of one step of a collective inside a node")
    network_latency: float = key("seconds", 0, doc="latency of one step between nodes")
    message: float = key("seconds", 0, doc="time to post one message of an all-to-all")
    pipelined: float = key("share", 1, maximum=1, doc="how far a collective's parts inside and between nodes overlap")
    in_network: float = key("share", 0, maximum=1,
                            doc="share of the link that an all-reduce in its switch reaches; 0: none")  # fmt: skip
    torus_axes: int = key("count", 0, whole=True, doc="axes of a torus; 0 where devices aren't in one")
    torus_side: float = key("count", 4, minimum=2, doc="ranks beyond which a group spreads over one more axis")
    time_low: float = key("count", 0.6, minimum=0.01, doc="measured step times over estimated ones, 10th percentile")
    time_high: float = key("count", 1.6, minimum=0.01, doc="the same, 90th percentile")
    notes: Any = key("any", None, doc="what bites")
    sources: dict[str, Any] = key("mapping", {}, doc="key -> where its figures are from")

    @property
    def time_range(self) -> tuple[float, float]:
        """Factors from an estimated step time to the low and high end that measured runs leave likely."""
        if self.measured:
            return min(self.time_low, 1.0), max(self.time_high, 1.0)
        return UNMEASURED

    @property
    def shapes(self) -> tuple[tuple[float, float, float], ...]:
        """Rows, columns and relative rate of each tile.

        Raises
        ------
        BadValueError
            A tile isn't written as ROWSxCOLUMNS.

        Examples
        --------
        >>> Efficiency(tiles={"256x128": 1.0}).shapes
        ((256.0, 128.0, 1.0),)
        """
        found = []
        for name, share in self.tiles.items():
            rows, _, columns = str(name).partition("x")
            if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
                raise BadValueError(f"a tile is written as 256x128, got {shown(name)}")
            found.append((float(rows), float(columns), float(share)))
        return tuple(found) or ((1.0, 1.0, 1.0),)

    def ceiling(self, precision: str) -> float:
        """Share of the dense peak of large products; a format without one has its width's, else its 16-bit format's."""
        narrow = ("fp8",) if PEAK_OF.get(precision) else ()
        names = (precision, PEAK_OF.get(precision, precision), *narrow, "bf16", "fp16")
        return float(next((self.matmul[name] for name in names if name in self.matmul), 1.0))
