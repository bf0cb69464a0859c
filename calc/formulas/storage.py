"""Bytes of stored numbers: weight matrices and cached vectors in any format, scales and codebooks included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from calc.architecture.model import Layer, Model, Stack
from calc.architecture.part import Weight
from calc.specs.format_records import HALF_BITS, Block, Format
from calc.specs.formats import format_named, ggml_type
from calc.xp import Number, ceil_div

if TYPE_CHECKING:
    from calc.formulas.gguf_mix import Mixture


def block_bytes(block: Block, inputs: Number, outputs: Number) -> Number:
    """Bytes of one kind of block (codes, scales, ...) of a matrix.

    Equation
    --------
    blocks = ceil(inputs / block_inputs) * ceil(outputs / block_outputs), or ceil(inputs * outputs / block_elements)
    bytes = ceil(blocks * bits / 8)

    Parameters
    ----------
    block : Block
    inputs, outputs : Number
        Size of the matrix [1].

    Source
    ------
    The layout of each format is its record's in `configs/formats.yaml`.
    """
    if block.elements:
        count = ceil_div(inputs * outputs, block.elements)
    else:
        count = (ceil_div(inputs, block.inputs) if block.inputs else 1) * (
            ceil_div(outputs, block.outputs) if block.outputs else 1)  # fmt: skip
    return ceil_div(count * block.bits, 8)


def matrix_bytes(inputs: Number, outputs: Number, format: Format) -> Number:
    """Bytes of one weight matrix with its scales, zero points and codebooks.

    Equation
    --------
    bytes = sum over codes, scales, zero points, codebooks of ceil(blocks * bits / 8)

    Parameters
    ----------
    inputs : Number
        Columns, along which groups run [1].
    outputs : Number
        Rows [1].
    format : Format

    Source
    ------
    GPTQ, arXiv 2210.17323; QLoRA, arXiv 2305.14314, section 3; AQLM, arXiv 2401.06118; VPTQ, arXiv 2409.17066;
    ggml-common.h of llama.cpp.

    Examples
    --------
    DeepSeek-V3's 128x128 blocks take 8.002 bits, GPTQ 4-bit in groups of 128 takes 4.156, QLoRA's double
    quantization 4.127:

    >>> bits = lambda name, inputs=4096, outputs=4096: round(
    ...     8 * matrix_bytes(inputs, outputs, format_named(name)) / (inputs * outputs), 3)
    >>> bits("fp8-block"), bits("gptq-4bit-g128"), bits("nf4-dq")
    (8.002, 4.156, 4.127)

    VPTQ with 256 centroids of 8 weights: 1.002 bits; the codebook of AQLM 1x16 is 1 MiB per matrix:

    >>> bits("vptq-v8-k256-0")
    1.002
    >>> format_named("aqlm-1x16").blocks[1].bits / 8 / 2**20
    1.0
    """
    total: Number = 0
    for block in format.blocks:
        total = total + block_bytes(block, inputs, outputs)
    return total


def weight_bytes(layers: Number, copies: Number, inputs: Number, outputs: Number, bias: Number,
                 format: Format) -> Number:  # fmt: skip
    """Bytes of one weight in some equal layers.

    Equation
    --------
    bytes = layers * copies * (matrix bytes + 2 * outputs where there is a bias)

    Parameters
    ----------
    layers : Number
        Layers that have it [1].
    copies : Number
        Equal matrices in a layer: its experts on the device [1].
    inputs, outputs : Number
        Size of one matrix, or of the device's share of it [1].
    bias : Number
        1 (or true) where each output has a bias, kept in 16 bits; 0 else [1].
    format : Format
        What the matrix is stored in.

    Source
    ------
    Sum over what the format stores (`calc.formulas.storage.matrix_bytes`).

    Examples
    --------
    Llama-2-7B's matrices in NF4 with double quantization, 3.341 GB (QLoRA: 4.127 bits per parameter):

    >>> nf4, shapes = format_named("nf4-dq"), [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]
    >>> round(sum(weight_bytes(32, 1, a, b, 0, nf4) for a, b in shapes) / 1e9, 3)
    3.341
    """
    return layers * copies * (matrix_bytes(inputs, outputs, format) + bias * outputs * (HALF_BITS // 8))


def kv_vector_bytes(width: Number, format: Format) -> Number:
    """Bytes of one head's key or value of one token, scales included.

    Equation
    --------
    bytes = sum over codes and scales of ceil(width / block) * bits / 8
    (a scale without a block length is kept for each vector; llama.cpp's types need whole blocks)

    Parameters
    ----------
    width : Number
        Elements of the vector [1].
    format : Format
        A key-value format.

    Source
    ------
    lmdeploy kv_quant.md (per token and head); KIVI, arXiv 2402.02750 (groups of 32); ggml-common.h.

    Examples
    --------
    128 elements in 16 bits, in KIVI's 2 bits (3 with scales), in llama.cpp's q8_0:

    >>> from calc.specs.formats import kv_format_named
    >>> [kv_vector_bytes(128, kv_format_named(name)) for name in ("bf16", "kivi-2bit", "q8_0")]
    [256, 48, 136]
    """
    return matrix_bytes(width, 1, format)


def format_of(format: Format, weight: Weight, unquantized: tuple[str, ...] = ()) -> Format:
    """The format one weight is stored in when a model is stored in `format`.

    Parameters
    ----------
    format : Format
        The model's weight format.
    weight : Weight
    unquantized : tuple of str
        Roles or names of weights that the checkpoint leaves in 16 bits.

    Examples
    --------
    >>> from calc.architecture.part import linear
    >>> format_of(format_named("nf4"), linear("lm_head", 4096, 32000, role="head")).name
    'bf16'
    """
    kept = weight.role in unquantized or weight.name in unquantized
    if weight.role in format.roles and not kept:
        return format
    other = dict(format.others).get(weight.role)
    return format_named(other if other and not kept else "bf16")


class Storage:
    """Which format each weight of a model is stored in, when the model is stored in `format`.

    Parameters
    ----------
    model : Model
    format : Format
        The model's weight format; of a llama.cpp file type, each tensor gets its own type (`calc.formulas.gguf_mix`).
    unquantized : tuple of str
        Roles or names of weights, groups of parts, and names of stacks that the checkpoint's own quantization leaves
        in 16 bits.
    importance : bool, optional
        Whether a llama.cpp file is made with an importance matrix; None as is usual for its type.
    """

    __slots__ = ("_mixture", "format", "model", "unquantized")

    def __init__(self, model: Model, format: Format, unquantized: tuple[str, ...] = (),
                 importance: bool | None = None) -> None:  # fmt: skip
        self.model, self.format, self.unquantized = model, format, unquantized
        self._mixture: Mixture | None = None
        if format.mix is not None:
            from calc.formulas.gguf_mix import Mixture

            self._mixture = Mixture(model, format, importance)

    @property
    def name(self) -> str:
        """Name of the weight format."""
        return self.format.name

    def layers(self, stack: Stack, layer: Layer, weight: Weight, indices: Sequence[int],
               group: str = "") -> list[tuple[Format, int]]:  # fmt: skip
        """Formats of a weight in some layers of a stack, all equal to `layer`, each with how many of them have it;
        `group` is that of the weight's part."""
        if self._mixture is not None:
            found = self._mixture.indices(stack, layer, weight, indices)
            return [(format, len(those)) for format, those in found]
        return [(self._plain(weight, stack.name, group), len(indices))] if indices else []

    def ends(self, weight: Weight, stack: str = "decoder", group: str = "") -> Format:
        """Format of a weight before the first or after the last layer of a stack: tables, head, final norm."""
        if self._mixture is not None:
            return ggml_type("f16") if stack in TOWERS else self._mixture.ends(weight)
        return self._plain(weight, stack, group)

    def _plain(self, weight: Weight, stack: str, group: str) -> Format:
        """A weight's format where no rule of llama.cpp's counts; quantizers leave towers alone."""
        if group in self.unquantized or stack in self.unquantized or (stack in TOWERS and self.format.bits < HALF_BITS):
            return format_named("bf16")
        return format_of(self.format, weight, self.unquantized)


TOWERS = ("vision", "audio")
"""Stacks that weight quantization skips (llm-compressor's and AutoAWQ's recipes; llama.cpp's separate mmproj file)."""
