"""How long matrix products and memory-bound operators take on one device."""

from __future__ import annotations

from dataclasses import dataclass

from calc.errors import MissingFactError
from calc.specs.efficiency import PEAK_OF, Efficiency
from calc.specs.hardware import Hardware
from calc.xp import Number, ceil, is_array, maximum, operations

ELEMENT_BYTES = {"fp32": 4.0, "tf32": 4.0, "fp8": 1.0, "mxfp8": 1.0, "int8": 1.0, "nvfp4": 0.5, "mxfp4": 0.5}
"""Bytes of an operand, where it isn't two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What one device reaches in one precision: made once per estimate, so that each product is a few operations."""

    precision: str
    """Format of the operands."""
    peak: float
    """Dense peak of the format [FLOP/s]."""
    rate: float
    """What large, well-shaped products reach of it [FLOP/s]."""
    bandwidth: float
    """What memory-bound kernels reach of the memory bandwidth [byte/s]."""
    element_bytes: float
    """Bytes of an operand [byte]."""
    units: float
    """Multiprocessors that share the tiles of a product; 1 where unknown [1]."""
    tiles: tuple[tuple[float, float, float], ...]
    """Rows, columns and cost of a tile shape: rows x columns x units / share [1]."""
    fine: float
    """Elements that rows of a matrix start on multiples of [1]."""
    coarse: float
    """Elements below which matrix units are hard to feed [1]."""
    forward: float
    """Share of the peak that fused attention reaches, forward [1]."""
    backward: float
    """The same backward [1]."""
    efficiency: Efficiency
    """The constants behind it."""


def roof(hardware: Hardware, efficiency: Efficiency, precision: str, attention: str = "flash") -> Roof:
    """What a device reaches in a precision.

    Parameters
    ----------
    hardware : Hardware
    efficiency : Efficiency
        Of the device's generation.
    precision : str
        Format of the matrices: bf16, fp8, nvfp4 ...
    attention : str
        Fused attention kernel, one of the record's; without it the record's first.

    Raises
    ------
    MissingFactError
        The hardware record has no peak of the format, or no memory bandwidth.
    """
    name = PEAK_OF.get(precision, precision)
    peak = hardware.peak.get(name)
    if peak is None:
        raise MissingFactError(f"{hardware.name} has no peak in {name}; give peak.{name} or another precision "
                               f"({', '.join(hardware.peak)})")  # fmt: skip
    if hardware.bandwidth is None:
        raise MissingFactError(f"{hardware.name} has no memory bandwidth; give memory.bandwidth")
    element = ELEMENT_BYTES.get(precision, 2.0)
    units = float(hardware.compute_units or 1)
    kernels = efficiency.attention
    kernel = kernels.get(attention) or next(iter(kernels.values()), {"forward": 0.5, "backward": 0.4})
    return Roof(
        precision=precision, peak=peak, rate=peak * efficiency.ceiling(precision), units=units, element_bytes=element,
        bandwidth=hardware.bandwidth * efficiency.memory, efficiency=efficiency,
        tiles=tuple((rows, columns, rows * columns * units / share) for rows, columns, share in efficiency.shapes),
        fine=efficiency.alignment / element, coarse=efficiency.coarse_alignment / element,
        forward=kernel["forward"], backward=kernel["backward"],
    )  # fmt: skip


def _slots(roof: Roof, rows: Number, outputs: Number, count: Number) -> Number:
    """Elements of the result that the device has time for while it computes these: never fewer than there are.

    Tiles stick out over the edges, and the last wave of tiles leaves multiprocessors idle; of several tile shapes the
    library takes the best.
    """
    ceil, _, minimum, _ = operations(rows, outputs, count)
    tail, units, best = roof.efficiency.tail, roof.units, None
    for tile_rows, tile_columns, cost in roof.tiles:
        waves = ceil(rows / tile_rows) * ceil(outputs / tile_columns) * count / units
        slots = cost * (waves + tail * (ceil(waves) - waves))
        best = slots if best is None else minimum(best, slots)
    return best


def _alignment(roof: Roof, inputs: Number, outputs: Number, count: Number) -> Number:
    """Share of the rate left to matrices whose rows don't start on whole memory transactions."""
    _, _, _, where = operations(inputs, outputs, count)
    own = roof.efficiency
    coarse = roof.coarse
    single = where(_over(inputs, coarse / 2) + _over(outputs, coarse / 2) > 0, own.unaligned, own.misaligned)
    poor = where(count > 1, own.unaligned_batch, single)
    poor = where(_over(inputs, coarse) + _over(outputs, coarse) > 0, poor, own.misaligned)
    return where(_over(inputs, roof.fine) + _over(outputs, roof.fine) > 0, poor, 1.0)


def _over(size: Number, multiple: float) -> Number:
    """How far a size is from a multiple: 0 where it is one."""
    # the remainder of arrays is slow
    return multiple * ceil(size / multiple) - size if is_array(size) else size % multiple


def matmul_seconds(roof: Roof, rows: Number, inputs: Number, outputs: Number, count: Number = 1, *,
                   input_bytes: float = 0, weight_bytes: float = 0, output_bytes: Number = 2) -> Number:  # fmt: skip
    """Time of one launch of `count` equal matrix products (rows x inputs) (inputs x outputs).

    Equation
    --------
    seconds = max(arithmetic, memory) + kernel
    arithmetic = 2 * (inputs + depth) * slots / (peak * ceiling * aligned)
    slots = least over tiles of (waves + tail * (ceil(waves) - waves)) * units * tile / share
    waves = count * ceil(rows / tile_rows) * ceil(outputs / tile_columns) / units
    memory = count * (rows * inputs * input_bytes + inputs * outputs * weight_bytes + rows * outputs * output_bytes)
             / bandwidth

    Parameters
    ----------
    roof : Roof
        The device in the precision of the product.
    rows : Number
        Rows of each product: tokens, or tokens per expert [1].
    inputs : Number
        Inner dimension [1].
    outputs : Number
        Columns of the result [1].
    count : Number
        Products in one launch: a device's experts, sequences times heads of unfused attention [1].
    input_bytes, weight_bytes : Number
        Bytes per element of the operands; 0 for those of the precision [byte].
    output_bytes : Number
        Bytes per element of the result [byte].

    Source
    ------
    NVIDIA, Matrix Multiplication Background User's Guide (tile and wave quantization, alignment); roofline:
    Williams et al. 2009. Alignment shows in BLOOM's tuning (bigscience tr11, chronicles-prequel.md).
    """
    own = roof.efficiency
    slots = _slots(roof, rows, outputs, count)
    arithmetic = 2 * (inputs + own.depth) * slots / (roof.rate * _alignment(roof, inputs, outputs, count))
    read = rows * inputs * (input_bytes or roof.element_bytes) + inputs * outputs * (weight_bytes or roof.element_bytes)
    moved = read + rows * outputs * output_bytes
    return maximum(arithmetic, moved * count / roof.bandwidth) + own.kernel


def linear_seconds(roof: Roof, tokens: Number, inputs: Number, outputs: Number, count: Number = 1, *,
                   output_bytes: Number = 2, gradient_bytes: Number = 2,
                   frozen: bool = False) -> tuple[Number, Number, Number]:  # fmt: skip
    """Time of a linear layer: forward, gradient of its inputs, gradient of its weight (each as `matmul_seconds`).

    Equation
    --------
    forward = (tokens x inputs) (inputs x outputs)
    input gradient = (tokens x outputs) (outputs x inputs)
    weight gradient = (inputs x tokens) (tokens x outputs)
    several at once reach `grouped` of the rate of one

    Parameters
    ----------
    roof : Roof
    tokens : Number
        Tokens, of each expert where there are several [token].
    inputs, outputs : Number
        Of the weight on this device [1].
    count : Number
        Experts on this device, computed in one launch [1].
    output_bytes : Number
        Bytes per element of results and of input gradients [byte].
    gradient_bytes : Number
        Bytes per element of the weight's gradient [byte].
    frozen : bool
        Whether the weight isn't trained: it has no gradient.
    """
    ceil, greatest, minimum, where = operations(tokens, inputs, outputs, count)
    own, element, tail, units = roof.efficiency, roof.element_bytes, roof.efficiency.tail, roof.units
    # `_slots` of the three results, sharing what they have in common
    forward = back = weight = None
    for tile_rows, tile_columns, cost in roof.tiles:
        token_rows, wide_columns = ceil(tokens / tile_rows) * count / units, ceil(outputs / tile_columns)
        narrow_columns = ceil(inputs / tile_columns)
        waves = token_rows * wide_columns
        slots = cost * (waves + tail * (ceil(waves) - waves))
        forward = slots if forward is None else minimum(forward, slots)
        waves = token_rows * narrow_columns
        slots = cost * (waves + tail * (ceil(waves) - waves))
        back = slots if back is None else minimum(back, slots)
        waves = ceil(inputs / tile_rows) * wide_columns * count / units
        slots = cost * (waves + tail * (ceil(waves) - waves))
        weight = slots if weight is None else minimum(weight, slots)
    off = _over(inputs, roof.fine) + _over(outputs, roof.fine)
    aligned = _alignment(roof, inputs, outputs, count) if is_array(off) or off else 1.0
    rate = roof.rate * aligned * where(count > 1, own.grouped, 1.0) / 2
    narrow, wide, square = tokens * inputs, tokens * outputs, inputs * outputs
    scale = count / roof.bandwidth
    read = element * scale
    write, kernel, depth = output_bytes * scale, own.kernel, own.depth
    ahead = greatest((inputs + depth) * forward / rate, (narrow + square) * read + wide * write) + kernel
    behind = greatest((outputs + depth) * back / rate, (wide + square) * read + narrow * write) + kernel
    if frozen:
        return ahead, behind, 0.0
    moved = (narrow + wide) * read + square * (gradient_bytes * scale)
    return ahead, behind, greatest((tokens + depth) * weight / rate, moved) + kernel


def memory_seconds(roof: Roof, moved: Number, kernels: Number = 1) -> Number:
    """Time of operators that only move bytes.

    Equation
    --------
    seconds = moved / bandwidth + kernels * kernel

    Parameters
    ----------
    roof : Roof
        The device.
    moved : Number
        Bytes read and written, all kernels together [byte].
    kernels : Number
        Kernels that move them [1].
    """
    return moved / roof.bandwidth + kernels * roof.efficiency.kernel


def quantize_seconds(roof: Roof, elements: Number, source_bytes: Number = 2, target_bytes: Number = 1,
                     passes: Number = 1, kernels: Number = 1) -> Number:  # fmt: skip
    """Time of casting a tensor to the format that it is multiplied in.

    Equation
    --------
    seconds = elements * (passes * source_bytes + target_bytes) / bandwidth + kernels * kernel

    Parameters
    ----------
    roof : Roof
        The device.
    elements : Number
        Of the tensor [1].
    source_bytes, target_bytes : Number
        Per element before and after; both directions of a transposed copy are two targets [byte].
    passes : Number
        Reads of the source: 2 where the scale comes from the tensor itself (current scaling) [1].
    kernels : Number
        Kernels of it [1].

    Source
    ------
    Micikevicius et al. 2022 (FP8 formats), arXiv 2209.05433: per-tensor scales; NVIDIA Transformer Engine's recipes.
    """
    return elements * (passes * source_bytes + target_bytes) / roof.bandwidth + kernels * roof.efficiency.kernel
