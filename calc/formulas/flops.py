"""Floating-point operations of training, by matrix: forward, backward and what recomputation repeats.

A multiply-add counts as two. Everything is per token of the stack that the parts belong to; matrices count where a
token passes them (the experts it is sent to, a tied head too), tables, norms, biases and vectors count nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from calc.architecture.model import Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Scores, Shared, Weight, linear
from calc.formulas.adapters import is_fused, is_joined, is_target, targets
from calc.memo import ByIdentity
from calc.xp import Number, minimum, where

MATRICES = ("linear", "expert", "router", "head")
"""Roles of weights that are matrices of a matrix multiplication."""
UP_PROJECTIONS = ("q_b", "kv_b")
"""Matrices that rebuild latent attention's queries, keys and values (Megatron-Core's `mla_up_proj`)."""

Convention = Literal["causal", "full", "square"]
"""causal: a query meets the keys before it, half of the sequence on average, windows cut; full: the same unhalved, as
PaLM counts; square: all pairs, masked or not, as eager kernels compute them and torch's counter counts."""

# formulas


def attended_keys(sequence: Number, window: Number | None = None, causal: bool = True) -> Number:
    """Keys that a query meets, the mean over a sequence.

    Equation
    --------
    causal: keys = sequence / 2, or where a window w is shorter, keys = w - w^2 / (2 * sequence)
    full: keys = min(sequence, w)

    Parameters
    ----------
    sequence : Number
        Tokens that can meet each other; `packed_length` of packed documents [token].
    window : Number, optional
        Most past tokens that a query meets [token].
    causal : bool
        Whether a query meets only what came before it; False counts the square.

    Source
    ------
    Megatron-LM's FLOPs count halves causal attention (`training.py`); the window's mean is the area of its band.

    Examples
    --------
    Gemma-3's window of 1024 in 8192 tokens:

    >>> attended_keys(8192, 1024), attended_keys(8192), attended_keys(8192, causal=False)
    (960.0, 4096.0, 8192)
    """
    if not causal:
        return sequence if window is None else minimum(sequence, window)
    if window is None:
        return sequence / 2
    return where(sequence > window, window - window * window / (2 * sequence), sequence / 2)


def packed_length(mean: Number, longest: Number) -> Number:
    """Length of one sequence whose tokens meet as many keys as those of packed documents of differing lengths do.

    Equation
    --------
    length = sum of s_i^2 / sum of s_i, which for lengths spread as longest * u^k (u even in 0 to 1, k so that the
    mean fits) = longest^2 / (2 * longest - mean)

    Parameters
    ----------
    mean : Number
        Mean tokens of a document; taken as the longest where it is above [token].
    longest : Number
        Tokens of the longest document [token].

    Source
    ------
    The sums are what Megatron-LM passes to its count for packed sequences. The spread is an assumption between its
    bounds: `mean` (all documents alike) and `longest` (a few hold almost all tokens).

    Examples
    --------
    >>> packed_length(2048, 4096), packed_length(4096, 4096)
    (2730.6666666666665, 4096.0)
    """
    return longest * longest / (2 * longest - minimum(mean, longest))


def score_flops(heads: Number, qk_dim: Number, v_dim: Number, keys: Number) -> Number:
    """Attention scores and their weighted sum of values, forward, per query token.

    Equation
    --------
    FLOPs = 2 * heads * (qk_dim + v_dim) * keys

    Parameters
    ----------
    heads : Number
        Query heads; sharing keys and values among them saves nothing here [1].
    qk_dim, v_dim : Number
        Width of a query and key, and of a value, per head [1].
    keys : Number
        Keys that the query meets [token].

    Source
    ------
    Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, appendix B.

    Examples
    --------
    Llama-3-8B, one layer at 8192 tokens, causal: 2.1475 GFLOPs over 32 layers.

    >>> 32 * score_flops(32, 128, 128, attended_keys(8192))
    2147483648.0
    """
    return 2 * heads * (qk_dim + v_dim) * keys


def lora_flops(inputs: Number, outputs: Number, rank: Number) -> Number:
    """A low-rank adapter of a matrix, forward, per token.

    Equation
    --------
    FLOPs = 2 * rank * (inputs + outputs)

    Parameters
    ----------
    inputs, outputs : Number
        Size of the matrix it is put beside [1].
    rank : Number
        Rank of the adapter [1].

    Source
    ------
    Hu et al. 2021 (LoRA), arXiv 2106.09685, section 4.1.

    Examples
    --------
    >>> lora_flops(4096, 4096, 16)
    262144
    """
    return 2 * rank * (inputs + outputs)


def sparse_flops(dense: Number, rest: Number, sparsity: Number) -> Number:
    """FLOPs of a model whose matrices are sparse, where hardware skips what is zero.

    Equation
    --------
    FLOPs = (1 - sparsity) * dense + rest

    Parameters
    ----------
    dense : Number
        FLOPs of the matrices that are made sparse [FLOP].
    rest : Number
        FLOPs of what stays whole: attention scores, the head [FLOP].
    sparsity : Number
        Share of zeros [1].

    Source
    ------
    Thangarasa et al. 2023 (SPDF), arXiv 2303.10464, appendix on FLOPs.

    Examples
    --------
    >>> sparse_flops(100, 10, 0.75)
    35.0
    """
    return (1 - sparsity) * dense + rest


def backward_flops(forward: Number, weights: Number = 1, inputs: Number = 1) -> Number:
    """The backward pass of matrices, from their forward pass.

    Equation
    --------
    FLOPs = forward * (inputs + weights)

    Parameters
    ----------
    forward : Number
        FLOPs of the forward pass [FLOP].
    weights : Number
        Share of the weights that get a gradient: 0 for a frozen base, 0.5 where half of them rest [1].
    inputs : Number
        Share of the inputs that get a gradient: 0 below the first trained layer [1].

    Source
    ------
    Two products of the forward's size, one for each gradient: Kaplan et al. 2020, arXiv 2001.08361, section 2.1. Half
    fine-tuning (Hui et al. 2024, arXiv 2404.18466) so saves 1 - 2.5 / 3 of training.

    Examples
    --------
    >>> backward_flops(100), backward_flops(100, weights=0), backward_flops(100, weights=0.5)
    (200, 100, 150.0)
    """
    return forward * (inputs + weights)


# what parts do, whatever the plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One matrix of some parts."""

    group: str
    """Branch of the ledger (`attention`, `feed_forward`, `experts`, `head`, ...)."""
    name: str
    """Its name within the part."""
    weight: Weight
    flops: float
    """Forward, per token, copies that a token uses."""
    keys: Literal["tokens", "encoder"] = "tokens"
    """Whose tokens pass it: the stack's own, or the encoder's (keys and values of cross attention)."""
    modules: tuple[str, ...] = ()
    """Recompute modules that repeat it."""
    fused: bool = False
    """Whether the checkpoint stores it with others as one matrix (queries, keys and values)."""
    joined: bool = False
    """Whether it is a further piece of such a one: an adapter shares the first piece's input side."""
    last: bool = False
    """Whether nothing in the layer needs its output for backward, so that a recomputation can stop before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What some parts compute per token of a forward pass; independent of the plan."""

    matrices: tuple[Matrix, ...]
    scores: tuple[Scores, ...]
    scan: float
    """Recurrences and convolutions."""
    linear: float
    """All matrices that the stack's own tokens pass."""
    crossed: float
    """All matrices that the encoder's tokens pass."""
    routed: float
    """Routed experts, of `linear`."""
    head: float
    """Output projections, of `linear`."""
    last: float
    """What a recomputation that stops early leaves out, of `linear`."""


def _work(parts: tuple[Part, ...]) -> Work:
    found = _matrices(parts)
    own = [matrix for matrix in found if matrix.keys == "tokens"]
    return Work(
        matrices=found,
        scores=tuple(scores for part in parts for scores in part.scores()),
        scan=sum(part.scan() for part in parts),
        linear=sum(matrix.flops for matrix in own),
        crossed=sum(matrix.flops for matrix in found if matrix.keys == "encoder"),
        routed=sum(matrix.flops for matrix in own if matrix.weight.role == "expert"),
        head=sum(matrix.flops for matrix in own if matrix.weight.role == "head"),
        last=sum(matrix.flops for matrix in own if matrix.last),
    )


def _matrices(parts: tuple[Part, ...]) -> tuple[Matrix, ...]:
    """The matrices of some parts, with what repeats them."""
    final = _final(parts)
    found = []
    for part in parts:
        crosses = any(scores.keys == "encoder" for scores in part.scores())
        for weight in part.weights():
            if weight.role not in MATRICES:
                continue
            found.append(Matrix(
                group=part.group, name=weight.name, weight=weight,
                flops=2 * weight.inputs * weight.outputs * weight.used,
                keys="encoder" if crosses and weight.name in ("k", "v") else "tokens",
                modules=_modules(part.group, weight.name), last=(part, weight) == final,
                fused=is_fused(part), joined=is_joined(part, weight.name),
            ))  # fmt: skip
    return tuple(found)


def _modules(group: str, name: str) -> tuple[str, ...]:
    """Megatron-Core's recompute modules that a matrix belongs to."""
    if group == "feed_forward":
        return ("mlp",)
    if group == "experts":
        return ("moe", "shared_experts") if name.startswith("shared_") else ("moe",)
    return ("mla_up_proj",) if group == "attention" and name in UP_PROJECTIONS else ()


def _final(parts: tuple[Part, ...]) -> tuple[Part, Weight] | None:
    """The matrix that ends a layer, where only the residual takes its output.

    Not where it is scaled (a routed expert's, for the gradient of the router's weight) or normed: backward needs its
    output then. Four norms are two before and two behind the halves, where the family doesn't say.
    """
    if any(isinstance(part, Norm) and (part.behind or part.count > 3) for part in parts):
        return None
    for part in reversed(parts):
        rows = [weight for weight in part.weights() if weight.role in MATRICES and weight.split == "row"]
        if rows:
            scaled = rows[-1].role == "expert" or any(weight.name == "shared_expert_gate" for weight in part.weights())
            return None if scaled else (part, rows[-1])
    return None


work: Callable[[tuple[Part, ...]], Work] = ByIdentity(_work)
"""What some parts compute; looked up by the identity of the tuple (`layer.parts`, `stack.after`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """One distinct layer of a model (or what stands at an end of a stack), and how often it is there."""

    stack: str
    work: Work
    count: int
    indices: tuple[int, ...] = ()
    """Places in the stack; empty for what isn't a layer."""
    repeated: bool = True
    """Whether full recomputation repeats it: a layer, not an end."""


def _stacked(model: Model) -> tuple[Stacked, ...]:
    found = []
    for stack in model.text_stacks:
        for parts in (stack.before, stack.after):
            if parts:
                found.append(Stacked(stack=stack.name, work=work(parts), count=1, repeated=False))
        for layer, indices in stack.kinds():
            found.append(Stacked(stack=stack.name, work=work(layer.parts), count=len(indices),
                                 indices=tuple(indices)))  # fmt: skip
    return tuple(found)


stacked: Callable[[Model], tuple[Stacked, ...]] = ByIdentity(_stacked)
"""The distinct layers and ends of a model's encoder and decoder."""


def _mtp_parts(model: Model) -> tuple[Part, ...]:
    declared = model.stack("mtp")
    if declared is not None:
        layers = tuple(part for run in declared.runs for _ in range(run.repeat) for part in run.layer.parts)
        return (*declared.before, *layers, *declared.after)
    decoder = model.stack("decoder")
    if decoder is None or not decoder.runs:
        return ()
    head = tuple(part for part in decoder.after if any(weight.role == "head" for weight in part.weights()))
    join = Extra(declared=(linear("join", 2 * model.hidden_size, model.hidden_size),))
    return (join, *decoder.runs[-1].layer.parts, *(Shared(part=part) for part in head))


mtp_parts: Callable[[Model], tuple[Part, ...]] = ByIdentity(_mtp_parts)
"""What predicts one more token ahead (DeepSeek-V3, arXiv 2412.19437, section 2.2): a projection of the hidden state and
the next token's embedding joined, a layer like the last, and the model's head once more."""


# forward, backward, recomputation of parts


def forward_scores(here: Work, sequence: Number, attention: Convention = "causal", *, encoder: Number | None = None,
                   scorers: bool = True) -> Number:  # fmt: skip
    """Attention scores of a forward pass, per token; `encoder` is the length of the encoder's input where it differs
    from `sequence`, and scorers that only pick tokens can be left out."""
    found: Number = 0
    for scores in here.scores:
        if not (scores.v_dim or scorers):
            continue
        length = encoder if scores.keys == "encoder" and encoder is not None else sequence
        window = None if attention == "square" else scores.window
        keys = attended_keys(length, window, causal=scores.causal and attention == "causal")
        found = found + score_flops(scores.heads, scores.qk_dim, scores.v_dim, keys) / scores.stride
    return found


def forward_flops(here: Work, sequence: Number, attention: Convention = "causal", *, encoder: Number | None = None,
                  capacity: Number = 1, sparsity: float = 0.0) -> Number:  # fmt: skip
    """A forward pass of some parts, per token.

    `capacity` multiplies what routed experts compute (padding up to a capacity factor); `sparsity` is the share of
    zeros in all matrices but the head.
    """
    matrices = here.linear
    if sparsity:
        matrices = sparse_flops(here.linear - here.head, here.head, sparsity)
    crossed = here.crossed if encoder is None or not here.crossed else here.crossed * encoder / sequence
    padded = here.routed * (1 - sparsity) * (capacity - 1)
    return matrices + crossed + padded + here.scan + forward_scores(here, sequence, attention, encoder=encoder)


def recomputed_flops(here: Work, sequence: Number, attention: Convention = "causal", *, mode: str = "full",
                     modules: tuple[str, ...] = (), rule: str = "whole", saves: tuple[str, ...] = (),
                     encoder: Number | None = None, capacity: Number = 1, dropout: float = 0.0) -> Number:  # fmt: skip
    """What the backward pass of a layer computes again, per token.

    `mode` none, full (the layer but for `saves`, names of matrices whose results are kept, `scores` for the
    attention's; under the rule `early_stop` without the matrix that ends it, unless dropout's mask is needed behind it)
    or modules (Megatron-Core's names; the attention scores alone are `core_attn`).
    """
    if mode == "none":
        return 0
    if mode == "modules":
        again: Number = sum(matrix.flops for matrix in here.matrices if set(matrix.modules) & set(modules))
        return again + forward_scores(here, sequence, attention, encoder=encoder) if "core_attn" in modules else again
    again = forward_flops(here, sequence, attention, encoder=encoder, capacity=capacity)
    stops = rule == "early_stop" and not dropout
    if stops:
        again = again - here.last
    if saves:
        kept = sum(matrix.flops for matrix in here.matrices
                   if matrix.name in saves and not (matrix.last and stops))  # fmt: skip
        again = again - kept
        if "scores" in saves:
            again = again - forward_scores(here, sequence, attention, encoder=encoder, scorers=False)
    return again


# a whole model


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainable:
    """What of a model gets gradients."""

    share: float = 1.0
    """Share of the base's weights that get one: 0 frozen, 0.5 half fine-tuning."""
    rank: int = 0
    """Rank of low-rank adapters; 0 for none."""
    targets: tuple[str, ...] = ()
    """Names of the weights that have an adapter, as a scenario writes them."""
    first: int = 0
    """First layer with anything trained: gradients stop there."""


EVERYTHING = Trainable()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFlops:
    """FLOPs per token of a model (where there are an encoder and a decoder, per token of the decoder)."""

    forward: Number
    backward: Number
    recomputed: Number = 0

    @property
    def model(self) -> Number:
        """Forward and backward: what training needs at least."""
        return self.forward + self.backward

    @property
    def hardware(self) -> Number:
        """With what is computed again."""
        return self.forward + self.backward + self.recomputed


def adapter_flops(here: Work, trainable: Trainable) -> float:
    """Low-rank adapters of some parts, forward, per token."""
    if not trainable.rank:
        return 0.0
    chosen = targets(trainable.targets)
    found = 0.0
    for matrix in here.matrices:
        if is_target(matrix.name, matrix.weight.role, chosen, matrix.fused):
            inputs = 0 if matrix.joined else matrix.weight.inputs
            found += lora_flops(inputs, matrix.weight.outputs, trainable.rank) * matrix.weight.used
    return found


def token_flops(model: Model, sequence: Number, attention: Convention = "causal", *, trainable: Trainable = EVERYTHING,
                mtp: int = 0, encoder: Number | None = None, capacity: Number = 1, sparsity: float = 0.0,
                mode: str = "none", modules: tuple[str, ...] = (), rule: str = "whole",
                saves: tuple[str, ...] = (), recomputed_share: Number = 1,
                dropout: float = 0.0) -> TokenFlops:  # fmt: skip
    """Forward, backward and recomputed FLOPs per token of training a model.

    Equation
    --------
    forward = 2 * matrices + 2 * heads * (qk + v) * keys + scans
    backward = 2 * forward; of frozen matrices 1 * forward; of layers below the first trained one none

    Parameters
    ----------
    model : Model
    sequence : Number
        Tokens that can meet each other [token].
    attention : Convention
        Whether causal attention counts half of the square.
    trainable : Trainable
        What gets gradients: all, adapters, half of the weights.
    mtp : int
        Tokens predicted beyond the next one in training [1].
    encoder : Number, optional
        Tokens of the encoder's input where they differ from `sequence` [token].
    capacity : Number
        Capacity factor that routed experts are padded to; 1 for none [1].
    sparsity : float
        Share of zeros in all matrices but the head [1].
    mode, modules, rule, saves
        What is recomputed, as `recomputed_flops` takes it.
    recomputed_share : Number
        Share of the layers of which it is (`recompute_layers`) [1].
    dropout : float
        Dropout probability: above zero, no recomputation stops early [1].

    Source
    ------
    Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, appendix B; Narayanan et al. 2021, arXiv 2104.04473, appendix.

    Examples
    --------
    Llama-3-8B at 8192 tokens: 51.47 GFLOPs per token.

    >>> from calc.load import model
    >>> round(token_flops(model("llama-3-8b"), 8192).model / 1e9, 2)
    51.47
    """
    pieces = stacked(model)
    if mtp and mtp_parts(model):
        pieces = (*pieces, Stacked(stack="decoder", work=work(mtp_parts(model)), count=mtp, repeated=False))
    paired = any(piece.stack == "encoder" for piece in pieces) and any(piece.stack == "decoder" for piece in pieces)
    source = model.encoder_length if encoder is None else encoder
    forward: Number = 0
    backward: Number = 0
    again: Number = 0
    for piece in pieces:
        here, count = piece.work, piece.count
        length, often = sequence, count
        if paired and piece.stack == "encoder" and source is not None:
            length, often = source, count * source / sequence
        crossed = source if paired else None
        added = adapter_flops(here, trainable)
        once = forward_flops(here, length, attention, encoder=crossed, capacity=capacity, sparsity=sparsity)
        forward = forward + often * (once + added)
        above = (
            count
            if not (trainable.first and piece.indices)
            else sum(1 for index in piece.indices if index >= trainable.first)
        )
        if trainable.first and not piece.indices and not here.head:
            above = 0  # what stands before the layers
        scores = forward_scores(here, length, attention, encoder=crossed) + here.scan
        back = backward_flops(once - scores, weights=trainable.share) + backward_flops(scores + added)
        backward = backward + back * often * above / count
        if mode != "none" and piece.repeated:
            again = again + often * recomputed_share * (added + recomputed_flops(
                here, length, attention, mode=mode, modules=modules, rule=rule, saves=saves, encoder=crossed,
                capacity=capacity, dropout=dropout))  # fmt: skip
    return TokenFlops(forward=forward, backward=backward, recomputed=again)


def by_matrix(model: Model, sequence: Number, attention: Convention = "causal") -> list[tuple[str, str, str, Number]]:
    """Forward FLOPs per token of each matrix and of each part's scores and scan, all layers together: stack, group,
    name, FLOPs. They sum to the forward pass where encoder and decoder are equally long."""
    found: dict[tuple[str, str, str], Number] = {}

    def add(stack: str, group: str, name: str, flops: Number) -> None:
        found[stack, group, name] = found.get((stack, group, name), 0) + flops

    for piece in stacked(model):
        for matrix in piece.work.matrices:
            add(piece.stack, matrix.group, matrix.name, piece.count * matrix.flops)
        if piece.work.scores:
            add(piece.stack, "attention", "scores", piece.count * forward_scores(piece.work, sequence, attention))
        if piece.work.scan:
            add(piece.stack, "recurrent", "scan", piece.count * piece.work.scan)
    return [(*place, flops) for place, flops in found.items()]
