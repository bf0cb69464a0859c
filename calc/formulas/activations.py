"""Activations that a forward pass keeps for the backward pass, and what logits and loss need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from calc.architecture.part import Part, Saved, Weight
from calc.xp import Number, ceil_div, where

FIXED = {"fp32": 4.0, "mask": 1.0, "int64": 8.0}
"""Bytes of an element of a format that no precision changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Which of the tensors that parts declare are kept, and how wide: the kinds that a plan fixes."""

    kernels: str = "fused"
    """fused or eager."""
    attention: str = "flash"
    """flash, unfused, or math (torch's fallback, all in fp32)."""
    dropout: bool = False
    """Whether dropout is above zero."""
    element_bytes: float = 2
    """Bytes of an activation: what matrices compute in [byte]."""
    autocast: bool = False
    """Weights, residual stream and norms are fp32, matrices compute in `element_bytes`."""
    recomputed: tuple[str, ...] = ()
    """Modules whose tensors are computed again in the backward pass."""
    wide_masks: bool = False
    """Dropout masks are as wide as activations (torch on a CPU) rather than one byte."""
    frozen: bool = False
    """The weights of the model itself aren't trained."""
    adapted: tuple[str, ...] = ()
    """Names of weights with a low-rank adapter."""
    rank: float = 0
    """Inner width of each adapter [1]."""
    adapter_bytes: float = 0
    """Bytes of an adapter's activations; 0 means `element_bytes`. PEFT keeps adapters in fp32: 4 [byte]."""
    adapter_dropout: bool = False
    """Whether each adapter drops some of its input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes per token by what divides them; what `bytes_per_token` needs, summed once per kind of layer."""

    whole: float = 0
    """Never divided."""
    tensor: float = 0
    """Divided by tensor parallelism."""
    sequence: float = 0
    """Divided by tensor parallelism where that is sequence parallel too."""
    heads: tuple[tuple[int, float], ...] = ()
    """Divided by tensor parallelism in whole pieces: number of pieces, bytes."""
    dispatched: float = 0
    """What routed experts keep of whole tokens."""
    expert: float = 0
    """What routed experts keep that expert tensor parallelism divides."""
    score: float = 0
    """Per key that a token meets, divided by tensor parallelism."""
    encoder_heads: tuple[tuple[int, float], ...] = ()
    """As `heads`, per token of the encoder."""
    encoder_score: float = 0
    """Per token of the encoder that a token meets."""


def is_kept(item: Saved, keeping: Keeping) -> bool:
    """Whether a declared tensor is kept at all."""
    if item.kernels not in ("", keeping.kernels) or item.attention not in ("", keeping.attention):
        return False
    if item.dropout not in (None, keeping.dropout) or any(name in keeping.recomputed for name in item.modules):
        return False
    if not item.inputs_of or not keeping.frozen:
        return True
    return _reads_base(keeping) and any(name in keeping.adapted for name in item.inputs_of)


def _reads_base(keeping: Keeping) -> bool:
    """Whether an adapter keeps the very tensor that its matrix reads, rather than a copy or what dropout left of it."""
    same = keeping.adapter_bytes in (0, keeping.element_bytes)
    return same and not keeping.adapter_dropout and not keeping.autocast


def item_bytes(item: Saved, keeping: Keeping) -> float:
    """Bytes per token of a kept tensor, undivided."""
    if item.format == "mask" and keeping.wide_masks:
        size = keeping.element_bytes
    elif item.format == "residual":
        size = 4.0 if keeping.autocast else keeping.element_bytes
    elif item.format in ("cast", "upcast"):
        size = keeping.element_bytes if item.format == "cast" else FIXED["fp32"]
        size = size if keeping.element_bytes < FIXED["fp32"] else 0.0
    elif item.format == "autocast":
        size = keeping.element_bytes if keeping.autocast else 0.0
    else:
        size = FIXED.get(item.format, keeping.element_bytes)
    return item.width * size * (item.casts if keeping.autocast else 1)


@lru_cache(maxsize=4096)
def kept_by(parts: tuple[Part, ...], keeping: Keeping) -> Kept:
    """What parts keep per token, summed by what divides it."""
    sums: dict[str, float] = {}
    heads: dict[tuple[str, int], float] = {}
    for item in (item for part in parts for item in part.saved()):
        if is_kept(item, keeping):
            size = item_bytes(item, keeping)
            if item.per == "token" and item.units:
                heads[item.keys, item.units] = heads.get((item.keys, item.units), 0.0) + size
            else:
                sums[_divided(item)] = sums.get(_divided(item), 0.0) + size
    for name, size in adapter_items((weight for part in parts for weight in part.weights()), keeping):
        sums[name] = sums.get(name, 0.0) + size
    own, encoder = (tuple((units, size) for (of, units), size in heads.items() if of == keys)
                    for keys in ("tokens", "encoder"))  # fmt: skip
    return Kept(heads=own, encoder_heads=encoder, **sums)


def _divided(item: Saved) -> str:
    """The field of `Kept` that a tensor without pieces counts in."""
    if item.per == "score":
        return "encoder_score" if item.keys == "encoder" else "score"
    if item.split == "none":
        return "dispatched" if item.routed else "whole"
    return item.split


def adapter_items(weights: Iterable[Weight], keeping: Keeping) -> Iterable[tuple[str, float]]:
    """What low-rank adapters keep per token beside what the model keeps: their input and their inner features.

    An adapter in another format than the activations keeps a copy of its input; one with dropout keeps what that left
    and its mask.
    """
    if not keeping.adapted:
        return
    size = keeping.element_bytes if keeping.autocast else keeping.adapter_bytes or keeping.element_bytes
    masks = (size if keeping.wide_masks else FIXED["mask"]) if keeping.adapter_dropout else 0.0
    for weight in weights:
        if weight.name not in keeping.adapted or weight.role not in ("linear", "expert"):
            continue
        expert = weight.role == "expert"
        yield "dispatched" if expert else "whole", weight.used * keeping.rank * size
        if not _reads_base(keeping):
            by_row = ("expert" if expert else "tensor") if weight.split == "row" else ""
            name = by_row or ("dispatched" if expert else "sequence")
            yield name, weight.used * weight.inputs * (size + masks)


def bytes_per_token(
    kept: Kept, *, tensor: Number = 1, sequence_parallel: bool = False, expert_tensor: Number = 1, keys: Number = 0,
    encoder: Number = 0, imbalance: Number = 1,
) -> Number:  # fmt: skip
    """Bytes that one device keeps per token of its micro-batch.

    Equation
    --------
    bytes = whole + (divided + keys * scores) / tensor + sequence / (tensor with sequence parallelism, else 1)
    + imbalance * (dispatched + expert / expert_tensor) * (expert_tensor / tensor with sequence parallelism, else 1)

    Parameters
    ----------
    kept : Kept
        Sums over the tensors of a layer [byte].
    tensor : Number
        Degree of tensor parallelism [1].
    sequence_parallel : bool
        Whether what lies between the matrices is divided over the tensor-parallel ranks too.
    expert_tensor : Number
        Tensor parallelism inside an expert [1].
    keys : Number
        Keys that a token's query is scored against where scores are written out: the length of the sequence, whatever
        mask or window; for sequences of several lengths the mean of their squares over their mean [token].
    encoder : Number
        Tokens of the encoder per token of this stack [1].
    imbalance : Number
        Load of a device's experts over a balanced one, or the capacity factor [1].

    Source
    ------
    Korthikanti et al. 2022, arXiv 2205.05198, section 4 and table 2. A group of `tensor` devices sends each token once
    to the experts where it is sequence parallel, so that experts of one device each see a share.

    Examples
    --------
    A GPT layer keeps 34 bytes per token and feature, 10 + 24 / 8 of them over 8 ranks:

    >>> layer = Kept(tensor=24 * 12288, sequence=10 * 12288)
    >>> bytes_per_token(layer) / 12288, bytes_per_token(layer, tensor=8) / 12288
    (34.0, 13.0)
    """
    ranks = where(sequence_parallel, tensor, 1)
    held = kept.whole + kept.tensor / tensor + kept.sequence / ranks
    for units, size in kept.heads:
        held = held + size * ceil_div(units, tensor) / units
    if kept.score:
        held = held + keys * kept.score / tensor
    if kept.dispatched or kept.expert:
        share = where(sequence_parallel, expert_tensor / tensor, 1)
        held = held + imbalance * (kept.dispatched + kept.expert / expert_tensor) * share
    for units, size in kept.encoder_heads:
        held = held + encoder * size * ceil_div(units, tensor) / units
    if kept.encoder_score:
        held = held + encoder * keys * kept.encoder_score / tensor
    return held


def layer_input_bytes(hidden_size: Number, element_bytes: Number = 2, tensor: Number = 1,
                      sequence_parallel: bool = False) -> Number:  # fmt: skip
    """Bytes per token that a layer keeps that is computed again as a whole: its input.

    Equation
    --------
    bytes = element_bytes * hidden_size / (tensor with sequence parallelism, else 1)

    Parameters
    ----------
    hidden_size : Number
        Width of the residual stream [1].
    element_bytes : Number
        Bytes per element of the residual stream: 4 under autocast [byte].
    tensor : Number
        Degree of tensor parallelism [1].
    sequence_parallel : bool
        Whether the residual stream is divided over the tensor-parallel ranks.

    Source
    ------
    Chen et al. 2016, arXiv 1604.06174; Korthikanti et al. 2022, arXiv 2205.05198, table 2 (2 s b h).

    Examples
    --------
    >>> layer_input_bytes(4096)
    8192.0
    """
    return element_bytes * hidden_size / where(sequence_parallel, tensor, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Bytes per token that logits and loss need on one device."""

    kept: Number
    """From the forward pass until the loss's backward: probabilities, labels, or the gradient computed ahead."""
    logits: Number
    """The logits themselves, alive while the loss is computed and differentiated."""
    temporary: Number
    """What computing and differentiating the loss takes beside both, at its peak."""


def loss_bytes(vocab_size: Number, hidden_size: Number, *, loss: str = "full", kernels: str = "eager",
               element_bytes: float = 2, tensor: Number = 1, chunks: Number = 1) -> Loss:  # fmt: skip
    """What logits and loss keep per token, and need beside it when the backward pass begins.

    Equation
    --------
    full: kept = 4 V / tensor + 8, logits = element_bytes V / tensor,
    temporary = 8 V / tensor (two fp32 copies; with fused kernels none: the gradient overwrites the probabilities)
    chunked: kept = element_bytes h + 8, logits and temporary (probabilities too) as full / chunks
    fused: kept = 4 + 8 (log-sum-exp and label), no logits

    Parameters
    ----------
    vocab_size : Number
        Vocabulary, padded as the framework does [1].
    hidden_size : Number
        Width of the head's input [1].
    loss : str
        full; chunked (a piece of the tokens at a time, differentiated at once); fused (logits are never written out).
    kernels : str
        eager (torch's cross entropy after a cast to fp32) or fused (Megatron's vocabulary-parallel loss, in place).
    element_bytes : float
        Bytes per logit as the head computes it [byte].
    tensor : Number
        Degree of tensor parallelism, which divides the vocabulary [1].
    chunks : Number
        Pieces of a chunked loss [1].

    Source
    ------
    transformers 5.23 `ForCausalLMLoss` under torch 2.13, measured: tests/data/activations.yaml. Megatron-LM
    `theoretical_memory_usage.py` (4 bytes per logit) and `cross_entropy.py`. Fused: Wijmans et al. 2024 (Cut your
    losses), arXiv 2411.09009. Chunked: Hsu et al. 2024 (Liger Kernel), arXiv 2410.10989.

    Examples
    --------
    Llama-3-8B, 8192 tokens: probabilities and logits take 5.87 GiB.

    >>> need = loss_bytes(128256, 4096)
    >>> round((need.kept + need.logits) * 8192 / 2**30, 2)
    5.87
    """
    label = FIXED["int64"]
    if loss == "fused":
        return Loss(kept=FIXED["fp32"] + label, logits=0.0 * vocab_size, temporary=0.0 * vocab_size)
    logits, full = element_bytes * vocab_size / tensor, FIXED["fp32"] * vocab_size / tensor
    copies = 2 if kernels == "eager" else 0
    if loss == "chunked":
        return Loss(kept=element_bytes * hidden_size + label, logits=logits / chunks,
                    temporary=(1 + copies) * full / chunks)  # fmt: skip
    return Loss(kept=full + label, logits=logits, temporary=copies * full)
