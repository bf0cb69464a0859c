"""Base units, and the only place that knows prefixes: "80 GiB", "15T", "400 Gb/s", "8k".

Inside the program every figure is in its base unit (byte, byte/s, second, token, FLOP, FLOP/s,
watt, dollar). People write and read prefixes; `parse` and the `format_*` functions stand between.
"""

from __future__ import annotations

import math
import re

from calc.errors import BadValueError, shown

KB, MB, GB, TB, PB = 10**3, 10**6, 10**9, 10**12, 10**15
KIB, MIB, GIB, TIB, PIB = 2**10, 2**20, 2**30, 2**40, 2**50

DECIMAL = {"": 1, "k": KB, "K": KB, "M": MB, "G": GB, "T": TB, "P": PB, "E": 10**18, "Z": 10**21, "Y": 10**24}
BINARY = {"Ki": KIB, "Mi": MIB, "Gi": GIB, "Ti": TIB, "Pi": PIB}


def _with(unit: str, *, binary: bool = False, scale: float = 1) -> dict[str, float]:
    """Suffix -> factor for a unit symbol with every prefix it may carry."""
    prefixes = DECIMAL | BINARY if binary else DECIMAL
    return {prefix + unit: factor * scale for prefix, factor in prefixes.items()}


_BYTES = {"": 1.0} | _with("B", binary=True)
SUFFIXES: dict[str, dict[str, float]] = {
    # counts and money: k, M, B, T are powers of 1000 (B and G both mean 10^9)
    "count": {"": 1, "k": KB, "K": KB, "M": MB, "B": GB, "G": GB, "T": TB, "P": PB, "E": 10**18},
    # the length of a sequence: k is 1024 and M is 1024^2, as in "8k context"
    "length": {"": 1, "k": KIB, "K": KIB, "M": MIB, "ki": KIB, "Ki": KIB, "Mi": MIB},
    "bytes": _BYTES | {"K": KB, "M": MB, "G": GB, "T": TB} | {"KB": KB, "kib": KIB},
    "bytes/s": {"": 1.0} | _with("B/s", binary=True) | _with("b/s", scale=1 / 8) | _with("bps", scale=1 / 8),
    "seconds": {"": 1, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60, "h": 3600, "d": 86400,
                "day": 86400, "days": 86400, "w": 604800, "y": 31557600},
    "flops": {"": 1} | _with("FLOP") | _with("FLOPs"),
    "flop/s": {"": 1} | _with("FLOP/s") | _with("FLOPS") | _with("OP/s") | _with("OPS"),
    "watts": {"": 1} | _with("W"),
    "dollars": {"": 1, "k": KB, "K": KB, "M": MB, "B": GB, "T": TB},
    "share": {"": 1, "%": 0.01},
}  # fmt: skip

EXAMPLES = {
    "count": "512, 8k, 1.5e12 or 15T", "length": "4096 or 32k", "bytes": "80 GiB or 80 GB",
    "bytes/s": "3.35 TB/s or 400 Gb/s", "seconds": "90, 2 h or 30 d", "flops": "1e24",
    "flop/s": "989 TFLOP/s", "watts": "700 W", "dollars": "2.5 or 100k", "share": "0.9 or 90%",
}  # fmt: skip

_NUMBER = re.compile(r"\s*([-+]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ%/]*)\s*", re.ASCII)
_FRACTION = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*", re.ASCII)
LARGEST = 1e30
"""No quantity here is larger (a zettaFLOP run is 1e21); what is, is a slip or an attack."""


def parse(value: object, dimension: str, *, minimum: float = 0) -> float:
    """A number in base units from what a person wrote.

    Parameters
    ----------
    value : int, float or str
        A bare number is in the base unit already.
    dimension : str
        A key of `SUFFIXES`.
    minimum : float
        Smallest legal value, in the base unit.

    Raises
    ------
    BadValueError
        Not a number, an unknown suffix, NaN, infinite, or below `minimum`.

    Examples
    --------
    >>> parse("80 GiB", "bytes")
    85899345920.0
    >>> parse("400 Gb/s", "bytes/s")
    50000000000.0
    >>> parse("8k", "length"), parse("8k", "count")
    (8192.0, 8000.0)
    """
    suffixes = SUFFIXES[dimension]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadValueError(f"expected a number such as {EXAMPLES[dimension]}, got {shown(value)}")
    if isinstance(value, str):
        text = value if len(value) <= 64 else ""
        text = text.strip().removeprefix("$") if dimension == "dollars" else text
        match = _NUMBER.fullmatch(text)
        fraction = _FRACTION.fullmatch(text) if dimension == "share" else None
        if fraction and int(fraction[2]):
            number = int(fraction[1]) / int(fraction[2])
        elif not match:
            raise BadValueError(f"expected a number such as {EXAMPLES[dimension]}, got {shown(value)}")
        elif match[2] not in suffixes:
            example = EXAMPLES[dimension]
            raise BadValueError(f"unknown unit {shown(match[2])} in {shown(value)}; write for example {example}")
        else:
            number = float(match[1].replace("_", "").replace(",", "")) * suffixes[match[2]]
    else:
        number = float(value) if abs(value) <= LARGEST else math.inf
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise BadValueError(f"expected a finite number below 1e30, got {shown(value)}")
    if number < minimum:
        raise BadValueError(f"must be at least {minimum:g}, got {shown(value)}")
    return number


def parse_whole(value: object, dimension: str, *, minimum: float = 0) -> int:
    """As `parse`, for quantities that come in whole pieces: 1.5k is 1500, 1.5 is an error."""
    number = parse(value, dimension, minimum=minimum)
    if number != round(number):
        raise BadValueError(f"expected a whole number, got {shown(value)}")
    return round(number)


def format_bytes(value: float, units: str = "GiB", digits: int = 2) -> str:
    """Bytes for people: 85899345920 is "80.00 GiB", or "85.90 GB" where decimal units are asked for."""
    sizes = {"GiB": GIB, "GB": GB, "MiB": MIB, "MB": MB, "TiB": TIB, "TB": TB}
    return f"{value / sizes[units]:,.{digits}f} {units}"


def format_bytes_fitting(value: float, units: str = "GiB") -> str:
    """Bytes in the largest unit of the same family that leaves at least 1: "512.0 KiB", "1.50 TiB"."""
    step, names = (1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]) if units == "GiB" else (
        1000, ["B", "kB", "MB", "GB", "TB", "PB"])  # fmt: skip
    index = 0
    while abs(value) >= step and index < len(names) - 1:
        value, index = value / step, index + 1
    return f"{value:,.0f} B" if index == 0 else f"{value:,.2f} {names[index]}"


def format_count(value: float) -> str:
    """A count with three significant digits and the suffix people say: 70.6B, 8.03B, 512."""
    for factor, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g}{suffix}" if abs(value) < 999.5 * factor else f"{value / factor:,.0f}{suffix}"
    return f"{value:,.0f}"


def format_length(value: float) -> str:
    """Tokens of a context: exact multiples of 1024 as 32k or 1M, others in full."""
    tokens = int(value)
    if tokens >= MIB and tokens % MIB == 0:
        return f"{tokens // MIB}M"
    if tokens >= 8 * KIB and tokens % KIB == 0:
        return f"{tokens // KIB}k"
    return f"{tokens:,}"
