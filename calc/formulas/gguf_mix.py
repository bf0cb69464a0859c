"""Which tensor type llama.cpp's quantizer gives to each tensor of a model, and what the file weighs.

The rules are data (`gguf_files` in `configs/formats.yaml`); here they are applied to a model's shape.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding, Head
from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.latent_attention import LatentAttention
from calc.architecture.model import Layer, Model, Run, Stack
from calc.architecture.norm import Norm
from calc.architecture.part import Part, Role, Weight
from calc.errors import BadValueError
from calc.formulas.storage import matrix_bytes
from calc.specs.format_records import Format, Mix, Rule
from calc.specs.formats import ggml_type

TENSORS = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "kv_b": "attn_kv_b", "attention_gate": "attn_q",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
    "shared_gate_proj": "ffn_gate", "shared_up": "ffn_up", "shared_down": "ffn_down",
}  # fmt: skip
"""Weight name -> the llama.cpp tensor whose rules it follows (experts and shared experts follow the dense ones);
matrices that aren't here have no rules and take the base type."""
UNQUANTIZED: tuple[Role, ...] = ("router", "position", "norm", "conv", "vector")
"""Roles that the quantizer leaves as they come, in f32."""
FALCON = ("falcon", "refinedweb", "refinedwebmodel")
"""Names of the family that the rules know as falcon: its output matrix is q8_0 in every quantized type."""
LAYERS_70B = 80
"""llama.cpp takes a model of so many layers with grouped heads for a 70B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Equal tensors of a file."""

    name: str
    """As llama.cpp writes it, without layer number and `.weight`, where rules know it; else the weight's own."""
    stack: str
    layers: tuple[int, ...]
    """Layers of the stack that have it; empty for a tensor outside the layers."""
    rows: int
    columns: int
    """Contiguous elements."""
    copies: int
    """Experts stacked in one tensor."""
    type: Format

    @property
    def count(self) -> int:
        """Layers that have it, 1 outside them."""
        return len(self.layers) or 1

    @property
    def elements(self) -> int:
        """Elements in all layers."""
        return self.count * self.copies * self.rows * self.columns

    @property
    def bytes(self) -> int:
        """Bytes in all layers."""
        return self.count * self.copies * int(matrix_bytes(self.columns, self.rows, self.type))


class Mixture:
    """A file type applied to a model: the type of every tensor, by layer.

    Parameters
    ----------
    model : Model
        Encoder and decoder count; towers are files of their own.
    format : Format
        A llama.cpp file type.
    importance : bool, optional
        Whether an importance matrix is used; None as is usual for the type.

    Source
    ------
    ggml-org/llama.cpp src/llama-quant.cpp (llama_tensor_get_type), versions of 2024 and 2025; that of 2026 differs only
    for fused query-key-value matrices.
    """

    __slots__ = ("_known", "_types", "experts", "family", "gqa", "importance", "mix", "model", "tied")

    def __init__(self, model: Model, format: Format, importance: bool | None = None) -> None:
        if format.mix is None:
            raise BadValueError(f"{format.name} is not a llama.cpp file type; name one such as q4_k_m")
        self.model = model
        self.mix: Mix = format.mix
        self.importance = format.mix.importance if importance is None else importance
        self.family = "falcon" if model.family.lower() in FALCON else model.family
        parts = [part for _, layer, _ in _layers(model) for part in layer.parts]
        attention = next((part for part in parts if isinstance(part, Attention)), None)
        self.gqa = attention.num_attention_heads // attention.num_key_value_heads if attention else 1
        self.experts = next((part.num_experts for part in parts if isinstance(part, Experts)), 0)
        heads = [weight for stack in model.text_stacks for part in stack.after for weight in part.weights()
                 if weight.role == "head"]  # fmt: skip
        self.tied = not any(weight.stored for weight in heads)
        self._known: dict[tuple[str, str, int, frozenset[str]], Format] = {}
        self._types = self._by_layer()

    def indices(self, stack: Stack, layer: Layer, weight: Weight,
                among: Sequence[int] | None = None) -> list[tuple[Format, tuple[int, ...]]]:  # fmt: skip
        """Types of a weight in the layers equal to `layer` (only those `among` some), each with the layers that have
        it. Towers are files of their own, in f16."""
        types = self._types.get(_key(stack.name, layer, weight), {})
        groups: dict[str, tuple[Format, list[int]]] = {}
        for index in types if among is None else among:
            format = types.get(index) or ggml_type("f16")
            groups.setdefault(format.name, (format, []))[1].append(index)
        return [(format, tuple(found)) for format, found in groups.values()]

    def ends(self, weight: Weight) -> Format:
        """Type of a weight outside the layers."""
        return self.type(_tensor(weight, False), weight.role, weight.inputs)

    def type(self, tensor: str, role: str, columns: int, shares: frozenset[str] = frozenset()) -> Format:
        """Type of one tensor.

        Parameters
        ----------
        tensor : str
            llama.cpp's name; empty for one that no rule names.
        role : str
            Role of the weight.
        columns : int
            Contiguous elements: a type whose blocks don't divide them is replaced by its fallback [1].
        shares : frozenset of str
            Shares of the layers that it is in, from `shares_of`.
        """
        key = (tensor, role, columns, shares)
        if key not in self._known:
            base = ggml_type(self.mix.base)
            if role in UNQUANTIZED or tensor == "token_types":
                found = "f32"
            elif base.multiple == 1:  # floating types have no rules
                found = base.name
            elif tensor == "output" or (tensor == "token_embd" and self.tied):
                # the quantizer looks at the base type's blocks here, not at the output type's
                found = "q8_0" if self.family == "falcon" or columns % base.multiple else self.mix.output or base.name
            elif tensor == "token_embd":
                found = self.mix.embedding or base.name
            elif role == "expert" and self.mix.experts:
                found = self.mix.experts
            else:
                found = self._common(tensor, self._chosen(tensor, shares))
            self._known[key] = _fitting(found, columns)
        return self._known[key]

    def _chosen(self, tensor: str, shares: frozenset[str]) -> str:
        """The first alternative of the file type's rule that applies, else its base type."""
        return next((rule.type for rule in self.mix.rules(tensor) if self._applies(rule, shares)), self.mix.base)

    def _applies(self, rule: Rule, shares: frozenset[str]) -> bool:
        return (
            (not rule.layers or rule.layers in shares)
            and self.gqa >= rule.gqa
            and rule.experts in (0, self.experts)
            and self.experts >= rule.experts_from
            and rule.family in ("", self.family)
            and rule.importance in (None, self.importance)
        )

    def _common(self, tensor: str, chosen: str) -> str:
        """What holds for every type of 3 bits and more: keys and values are small where few heads keep them."""
        if self.mix.low_bit or tensor not in ("attn_k", "attn_v"):
            return chosen
        if self.experts == 8:
            return "q8_0"
        if tensor == "attn_v" and self.model.num_layers == LAYERS_70B and self.gqa > 1 and chosen in ("q3_k", "q4_k"):
            return "q5_k"
        return chosen

    def _by_layer(self) -> dict[Hashable, dict[int, Format]]:
        """Weight of a layer -> index -> type, for every layer; equal weights of one layer have one type."""
        declared: dict[int, list[tuple[Weight, str]]] = {}
        for _, layer, _ in _layers(self.model):
            if id(layer) not in declared:
                declared[id(layer)] = [(weight, _tensor(weight, _fused(part)))
                                       for part in layer.parts for weight in part.weights()]  # fmt: skip
        values = sum(weight.name in ("v", "kv_b") for _, layer, _ in _layers(self.model)
                     for weight, _ in declared[id(layer)])  # fmt: skip
        ruled = {tensor for tensor, rules in self.mix.tensors if any(rule.layers for rule in rules)}
        seen: dict[str, int] = {}
        found: dict[Hashable, dict[int, Format]] = {}
        for stack_name, layer, index in _layers(self.model):
            for weight, tensor in declared[id(layer)]:
                shares: frozenset[str] = frozenset()
                if tensor in ruled:
                    position = seen.get(tensor, 0)
                    seen[tensor] = position + 1
                    # a model with experts has several tensors of a kind in a layer: there the layer's number counts
                    numbered = self.experts > 1 and not self.mix.low_bit and tensor != "attn_v"
                    shares = shares_of(index if numbered else position,
                                       values if tensor == "attn_v" else self.model.num_layers)  # fmt: skip
                type_ = self.type(tensor, weight.role, weight.inputs, shares)
                found.setdefault(_key(stack_name, layer, weight), {}).setdefault(index, type_)
        return found


@lru_cache(maxsize=4096)
def shares_of(index: int, count: int) -> frozenset[str]:
    """The shares of `count` layers that layer `index` is in.

    Examples
    --------
    >>> sorted(shares_of(0, 32)), sorted(shares_of(6, 32)), sorted(shares_of(5, 32))
    (['eighth', 'four', 'more', 'sixteenth', 'two'], ['middle', 'more'], ['middle'])
    """
    eighth, last = count // 8, 7 * count // 8
    inside = eighth <= index < last
    holds = {
        "eighth": index < eighth, "sixteenth": index < count // 16, "two": index < 2, "four": index < 4,
        "middle": inside, "more": not inside or (index - eighth) % 3 == 2,
    }  # fmt: skip
    return frozenset(name for name, true in holds.items() if true)


def tensors(model: Model, format: Format, *, importance: bool | None = None,
            latent: Literal["split", "joined"] = "split") -> list[Tensor]:  # fmt: skip
    """The tensors of a model's file, equal ones together.

    Parameters
    ----------
    model : Model
        Towers are left out: llama.cpp keeps them in a file of their own.
    format : Format
        A llama.cpp file type.
    importance : bool, optional
        Whether an importance matrix is used; None as is usual for the type.
    latent : str
        Whether latent attention's up-projection is stored as two tensors, as since April 2025, or as one.
    """
    mixture = Mixture(model, format, importance)
    found: list[Tensor] = []
    for stack in model.text_stacks:
        for part in (*stack.before, *stack.after):
            for weight in part.weights():
                if weight.stored:
                    found.extend(_stored(stack, part, weight, mixture.ends(weight), ()))
        for layer, _ in stack.kinds():
            for part in layer.parts:
                for weight in part.weights():
                    if not weight.stored:
                        continue
                    for type_, indices in mixture.indices(stack, layer, weight):
                        if weight.name == "kv_b" and latent == "split" and isinstance(part, LatentAttention):
                            found.extend(_latent_halves(stack, part, mixture, indices))
                        else:
                            found.extend(_stored(stack, part, weight, type_, indices))
    return found


def file_bytes(model: Model, format: Format, *, importance: bool | None = None,
               latent: Literal["split", "joined"] = "split") -> int:  # fmt: skip
    """Bytes of all tensors of a model in a llama.cpp file type; the log's "model size".

    Equation
    --------
    bytes = sum over tensors of rows * (columns / block) * bytes per block

    Parameters
    ----------
    model : Model
    format : Format
        A llama.cpp file type.
    importance : bool, optional
        Whether an importance matrix is used; None as is usual for the type.
    latent : str
        Whether latent attention's up-projection is stored as two tensors or as one.

    Source
    ------
    ggml-org/llama.cpp src/llama-quant.cpp and ggml-common.h.
    """
    return sum(tensor.bytes for tensor in tensors(model, format, importance=importance, latent=latent))


@lru_cache(maxsize=128)
def usual_bits(format: Format) -> float:
    """Bits per weight as a list of formats gives them: of a file type on a usual 8B model, of others their own.

    Equation
    --------
    bits = 8 * file bytes / elements, of Llama-3.1-8B's shape

    Parameters
    ----------
    format : Format

    Source
    ------
    tools/quantize/README.md of ggml-org/llama.cpp prints these for the same model.

    Examples
    --------
    >>> from calc.specs.formats import format_named
    >>> round(usual_bits(format_named("q4_k_m")), 4), usual_bits(format_named("mxfp4"))
    (4.8944, 4.25)
    """
    if format.mix is None:
        return format.bits
    hidden, vocabulary = 4096, 128256
    attention = Attention(hidden_size=hidden, num_attention_heads=32, num_key_value_heads=8, head_dim=128)
    layer = Layer(kind="full_attention", parts=(
        Norm(size=hidden, count=2), attention, FeedForward(hidden_size=hidden, intermediate_size=14336)))  # fmt: skip
    stack = Stack(
        name="decoder", before=(Embedding(vocab_size=vocabulary, hidden_size=hidden),),
        runs=(Run(layer=layer, repeat=32),),
        after=(Norm(size=hidden), Head(vocab_size=vocabulary, hidden_size=hidden, tied=False)),
    )  # fmt: skip
    found = tensors(Model(name="", family="llama", hidden_size=hidden, vocab_size=vocabulary, stacks=(stack,)), format)
    return 8 * sum(tensor.bytes for tensor in found) / sum(tensor.elements for tensor in found)


def _layers(model: Model) -> Iterator[tuple[str, Layer, int]]:
    """Every layer of the text model in order: stack, layer, index in the stack."""
    for stack in model.text_stacks:
        index = 0
        for run in stack.runs:
            for _ in range(run.repeat):
                yield stack.name, run.layer, index
                index += 1


def _key(stack: str, layer: Layer, weight: Weight) -> Hashable:
    """What tells the weights of a model apart, as far as their types may differ; equal layers are one object."""
    return stack, id(layer), weight.name, weight.role, weight.inputs


def _fused(part: Part) -> bool:
    return isinstance(part, Attention) and part.fused


def _tensor(weight: Weight, fused: bool) -> str:
    """llama.cpp's name of a weight, as far as rules know it."""
    if weight.role in ("linear", "expert"):
        return "attn_qkv" if fused and weight.name in ("q", "k", "v") else TENSORS.get(weight.name, "")
    if weight.role == "table":
        return "token_types" if weight.name == "token_types" else "token_embd"
    return {"embedding": "token_embd", "head": "output"}.get(weight.role, "")


def _fitting(name: str, columns: int) -> Format:
    """A type whose blocks divide a row: the type itself, its fallback, or f16."""
    type_ = ggml_type(name)
    if columns % type_.multiple == 0:
        return type_
    fallback = ggml_type(type_.fallback or "f16")
    return fallback if columns % fallback.multiple == 0 else ggml_type("f16")


def _stored(stack: Stack, part: Part, weight: Weight, type_: Format, layers: tuple[int, ...]) -> Iterator[Tensor]:
    """A weight's tensor, and its bias, which stays f32."""
    name = _tensor(weight, _fused(part)) or weight.name
    yield Tensor(name=name, stack=stack.name, layers=layers, rows=weight.outputs, columns=weight.inputs,
                 copies=weight.copies, type=type_)  # fmt: skip
    if weight.bias:
        yield Tensor(name=f"{name}_bias", stack=stack.name, layers=layers, rows=1, columns=weight.outputs,
                     copies=weight.copies, type=ggml_type("f32"))  # fmt: skip


def _latent_halves(stack: Stack, part: LatentAttention, mixture: Mixture, layers: tuple[int, ...]) -> Iterator[Tensor]:
    """The up-projections of keys (transposed, so that a row has one head's elements) and of values."""
    heads, rank = part.num_attention_heads, part.kv_lora_rank
    for name, rows, columns in (("attn_k_b", rank, part.qk_nope_head_dim), ("attn_v_b", part.v_head_dim, rank)):
        yield Tensor(name=name, stack=stack.name, layers=layers, rows=rows, columns=columns, copies=heads,
                     type=mixture.type(name, "linear", columns))  # fmt: skip
