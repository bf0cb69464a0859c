"""What a part of a model declares: its weights, its attention scores, what it keeps for the backward pass and what it
caches. Data only, no totals.

Everything else (parameter counts, sharded and quantized bytes, LoRA targets, cache sizes) is
computed from these declarations by `calc.formulas`, which know nothing about particular models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

Role = Literal["linear", "expert", "router", "embedding", "position", "table", "head", "norm", "conv", "vector"]
"""What a weight is for; formats say which roles they quantize.

linear: a matrix of a matrix multiplication; expert: the same inside a routed expert; router: the
expert gate; embedding: the input token table; position: learned or relative positions; table:
another lookup table (token types, per-layer embeddings); head: the output projection over the
vocabulary; norm: normalisation scales; conv: (short or patch) convolutions; vector: other scalars
and vectors (decays, sinks, magnitudes).
"""

Split = Literal["column", "row", "replicated"]
"""How tensor parallelism cuts a weight: by outputs, by inputs, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One weight tensor (or `copies` equal ones, such as experts), declared once."""

    name: str
    """Short name within the part (`q`, `k`, `v`, `o`, `gate`, `up`, `down`, ...); LoRA targets use it."""
    outputs: int
    """Output features; the length of a vector; the rows of a table."""
    inputs: int = 1
    """Input features (the contiguous dimension that quantization blocks run along); 1 for a vector."""
    role: Role = "linear"
    bias: bool = False
    """Whether `outputs` bias terms come with each copy."""
    split: Split = "replicated"
    units: int = 0
    """Indivisible pieces along the split dimension (heads, groups); 0 where any division is legal.
    Fewer units than ranks are replicated, so each rank holds ceil(units / tensor) of them."""
    copies: int = 1
    """Equal tensors stored (the experts of a layer)."""
    used: float = 1
    """Copies that one token passes through."""
    stored: bool = True
    """False for a weight that is another one's storage (tied head, shared block): it computes, but counts no
    bytes where its owner is on the same device."""

    @property
    def elements(self) -> int:
        """Stored elements of all copies, biases included, whoever owns them."""
        return self.copies * self.outputs * (self.inputs + self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What one part keeps of the tokens it has seen, per sequence."""

    name: str
    """`k`, `v`, `latent`, `index_key`, `state`, `conv`, ..."""
    heads: int
    """Pieces that tensor parallelism can divide; fewer than ranks are replicated."""
    width: int
    """Elements per head, per token or (for a state) per sequence."""
    keeps: Literal["tokens", "encoder", "sequence"] = "tokens"
    """tokens: one entry per token of the sequence; encoder: per token of the encoder's input;
    sequence: a state of fixed size."""
    window: int | None = None
    """Most tokens kept (sliding window, attention chunk); None keeps all."""
    stride: int = 1
    """Tokens that share one entry (compressed attention)."""
    split: bool = True
    """Whether tensor parallelism divides the heads; False for a latent that all heads read."""
    attended: bool = True
    """False for what only a scorer reads to pick the tokens that are attended to (index keys)."""
    format: str | None = None
    """A fixed storage format (recurrent states in fp32); None follows the KV format or, for a
    state, the model's own 16-bit format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Queries held against keys: softmax attention, or a scorer that picks what is attended to."""

    heads: int
    """Query heads; tensor parallelism divides them where `split`."""
    qk_dim: int
    """Width of a query and of a key, per head."""
    v_dim: int
    """Width of a value, per head; 0 for a scorer, which has none."""
    kv_heads: int = 0
    """Heads of keys and values; 0 means `heads`."""
    window: int | None = None
    """Most past tokens that a query meets (sliding window, chunk, the best of an indexer); None meets all."""
    causal: bool = True
    """Whether a query meets only what came before it."""
    keys: Literal["tokens", "encoder"] = "tokens"
    """Whose keys: the sequence's own, or the encoder's (cross attention)."""
    stride: int = 1
    """Tokens that share one key (compressed attention)."""
    split: bool = True
    """Whether tensor parallelism divides the heads."""


Form = Literal["", "residual", "fp32", "mask", "int64", "cast", "upcast", "autocast"]
"""Width of a saved element. "" follows the precision of activations (2 bytes in bf16), residual too but for 4 bytes
under autocast; fp32 is 4 bytes, mask 1, int64 8. The rest are copies: cast a 16-bit one of something in fp32 and upcast
an fp32 one, neither made where activations are fp32; autocast a 16-bit one that is made under autocast alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A tensor that the forward pass keeps for the backward pass."""

    name: str
    width: float
    """Elements per token, undivided; with `per` = score, query heads (times the keys each token meets)."""
    format: Form = ""
    split: Literal["tensor", "sequence", "none", "expert"] = "tensor"
    """What divides it: tensor parallelism always; tensor parallelism only with sequence parallelism; nothing;
    expert tensor parallelism (what routed experts keep)."""
    units: int = 0
    """Indivisible pieces (key heads) along what tensor parallelism divides; 0 where any division is legal."""
    per: Literal["token", "score"] = "token"
    keys: Literal["tokens", "encoder"] = "tokens"
    """Whose tokens it has one entry for: the sequence's own, or the encoder's (cross attention)."""
    kernels: Literal["", "fused", "eager"] = ""
    """Kernels that keep it; both where empty."""
    attention: Literal["", "flash", "unfused", "math"] = ""
    """Attention kernels that keep it; all where empty. math is torch's fallback: unfused, and all in fp32."""
    dropout: bool | None = None
    """True: only kept where dropout is above zero; False: only where it is zero."""
    modules: tuple[str, ...] = ()
    """Megatron-Core recompute modules (core_attn, mlp, moe, moe_act, layernorm, mla_up_proj, shared_experts) each of
    which drops it."""
    inputs_of: tuple[str, ...] = ()
    """Weights for whose gradients alone it is kept: not kept where all of them are frozen and have no adapter."""
    casts: int = 1
    """Matrices that read it apart: under autocast each keeps a copy of its own."""
    routed: bool = False
    """Grows with the imbalance and the capacity factor of routed experts (`width` counts a balanced load)."""


class Part(ABC):
    """A piece of a layer. Subclasses are frozen dataclasses and final.

    `group` names the branch of the memory ledger that its weights are reported under.
    """

    __slots__ = ()
    group: ClassVar[str]

    @abstractmethod
    def weights(self) -> tuple[Weight, ...]:
        """Each weight once."""

    def cache(self) -> tuple[Cache, ...]:
        """What is kept between tokens; nothing by default."""
        return ()

    def scores(self) -> tuple[Scores, ...]:
        """Attention scores that it computes; none by default."""
        return ()

    def scan(self) -> float:
        """FLOPs per token of a forward pass beside its matrices and scores: recurrent scans, convolutions."""
        return convolved(self.weights())

    def saved(self) -> tuple[Saved, ...]:
        """What is kept for the backward pass; nothing by default."""
        return ()

    def width(self) -> int:
        """Widest live activation per token beside the residual stream, in elements, undivided.

        The sum of the inputs and outputs that exist at once inside the part; zero where the part
        works in place.
        """
        return 0


def linear(name: str, inputs: int, outputs: int, *, bias: bool = False, split: Split = "replicated",
           units: int = 0, role: Role = "linear", copies: int = 1, used: float = 1) -> Weight:  # fmt: skip
    """A matrix with `inputs` columns and `outputs` rows."""
    return Weight(name=name, inputs=inputs, outputs=outputs, bias=bias, split=split, units=units, role=role,
                  copies=copies, used=used)  # fmt: skip


def convolved(weights: Iterable[Weight]) -> float:
    """FLOPs per token of the convolutions among some weights: a multiply-add per tap and output."""
    return float(sum(2 * weight.inputs * weight.outputs * weight.used for weight in weights if weight.role == "conv"))


def nearest(*reaches: int | None) -> int | None:
    """The shortest of some reaches, of which None is without end."""
    return min((reach for reach in reaches if reach is not None), default=None)


def vector(name: str, size: int, *, role: Role = "vector", split: Split = "replicated", units: int = 0) -> Weight:
    """`size` scalars."""
    return Weight(name=name, outputs=size, role=role, split=split, units=units)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra(Part):
    """Weights with no mechanism of their own: poolers, projectors, adapters between blocks.

    The place for what a family adds to the common parts, so that no part grows a flag per family.
    """

    declared: tuple[Weight, ...]
    group: ClassVar[str] = "other"

    def weights(self) -> tuple[Weight, ...]:
        return self.declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared(Part):
    """A part whose weights another layer owns (Zamba's shared block, ALBERT's layers).

    It caches and computes as its own; its weights are not stored again.
    """

    part: Part
    group: ClassVar[str] = "shared"

    def weights(self) -> tuple[Weight, ...]:
        return tuple(replace(weight, stored=False) for weight in self.part.weights())

    def cache(self) -> tuple[Cache, ...]:
        return self.part.cache()

    def scores(self) -> tuple[Scores, ...]:
        return self.part.scores()

    def scan(self) -> float:
        return self.part.scan()

    def saved(self) -> tuple[Saved, ...]:
        return self.part.saved()

    def width(self) -> int:
        return self.part.width()
