"""Bytes that memory-bound operators read and write, per token or per parameter.

Fused kernels read each input and write each output once. Eager ones take several kernels for it: the composer
multiplies by the software's `passes`.
"""

from __future__ import annotations

from calc.xp import Number

LOSS_PASSES = {"full": 28.0, "chunked": 28.0, "fused": 4.0}
"""Bytes per logit, forward and backward. Full: 16-bit logits to 32 bits (6), softmax (8), its gradient (8), back to 16
bits (6). Fused: read once, gradient written in place."""


def norm_bytes(hidden: Number, element_bytes: Number = 2, *, backward: bool = False) -> Number:
    """Bytes of a normalization, per token.

    Equation
    --------
    bytes = 2 * hidden * element_bytes; backward 3 (input and gradient in, gradient out)

    Parameters
    ----------
    hidden : Number
        Width that is normalized [1].
    element_bytes : Number
        Bytes per element [byte].
    backward : bool
        The backward pass in place of the forward one.

    Source
    ------
    Derived from the operator's inputs and outputs.

    Examples
    --------
    >>> norm_bytes(4096)
    16384
    """
    return (3 if backward else 2) * hidden * element_bytes


def residual_bytes(hidden: Number, element_bytes: Number = 2, *, backward: bool = False) -> Number:
    """Bytes of adding a part's output to the residual stream, per token.

    Equation
    --------
    bytes = 3 * hidden * element_bytes, backward too (two gradients meet)

    Parameters
    ----------
    hidden : Number
        Residual stream [1].
    element_bytes : Number
        Bytes per element [byte].
    backward : bool
        The backward pass in place of the forward one.

    Source
    ------
    Derived from the operator's inputs and outputs.
    """
    return 3 * hidden * element_bytes


def activation_bytes(inner: Number, element_bytes: Number = 2, *, gated: bool = True,
                     backward: bool = False) -> Number:  # fmt: skip
    """Bytes of a feed-forward activation, per token.

    Equation
    --------
    bytes = 3 * inner * element_bytes gated (gate and up in, product out), 2 plain; backward 5 and 3

    Parameters
    ----------
    inner : Number
        Inner width on this device; of all experts that a token takes [1].
    element_bytes : Number
        Bytes per element [byte].
    gated : bool
        Whether two projections are multiplied.
    backward : bool
        The backward pass in place of the forward one.

    Source
    ------
    Derived from the operator's inputs and outputs.
    """
    tensors = (5 if backward else 3) if gated else (3 if backward else 2)
    return tensors * inner * element_bytes


def rotary_bytes(query: Number, keys: Number, element_bytes: Number = 2, *, backward: bool = False) -> Number:
    """Bytes of rotating queries and keys, per token.

    Equation
    --------
    bytes = 2 * (query + keys) * element_bytes, forward and backward

    Parameters
    ----------
    query, keys : Number
        Width of all query heads and of all key heads on this device [1].
    element_bytes : Number
        Bytes per element [byte].
    backward : bool
        The backward pass in place of the forward one; it moves the same.

    Source
    ------
    Derived from the operator's inputs and outputs.
    """
    return 2 * (query + keys) * element_bytes


def router_bytes(hidden: Number, experts: Number, element_bytes: Number = 2, *, backward: bool = False) -> Number:
    """Bytes of choosing experts, per token: the residual stream, and ten passes over 32-bit scores.

    Equation
    --------
    bytes = hidden * element_bytes + 10 * 4 * experts; backward 2 * hidden

    Parameters
    ----------
    hidden : Number
        Residual stream [1].
    experts : Number
        Experts scored [1].
    element_bytes : Number
        Bytes per element [byte].
    backward : bool
        The backward pass in place of the forward one.

    Source
    ------
    Derived: scores, softmax or sigmoid, choice, map of the chosen and their weights, load and balance.
    """
    return (2 if backward else 1) * hidden * element_bytes + 40 * experts


def permute_bytes(hidden: Number, experts_per_token: Number, element_bytes: Number = 2, *,
                  backward: bool = False) -> Number:  # fmt: skip
    """Bytes of ordering tokens by expert and back, per token.

    Equation
    --------
    bytes = 2 * hidden * element_bytes * (1 + 3 * experts_per_token)

    Parameters
    ----------
    hidden : Number
        Residual stream [1].
    experts_per_token : Number
        Copies of each token, padding of capacities included [1].
    element_bytes : Number
        Bytes per element [byte].
    backward : bool
        The backward pass in place of the forward one; it moves the same.

    Source
    ------
    Derived: one copy read and k written; the same backwards, k read and one written. In between, what has come from
    other devices is sorted by expert and back, k read and k written twice (Megatron-Core, token_dispatcher.py).
    """
    return 2 * hidden * element_bytes * (1 + 3 * experts_per_token)


def embedding_bytes(hidden: Number, element_bytes: Number = 2, *, backward: bool = False) -> Number:
    """Bytes of looking up embeddings, per token.

    Equation
    --------
    bytes = 2 * hidden * element_bytes; backward 3 (gradients are added to the table)

    Parameters
    ----------
    hidden : Number
        Residual stream [1].
    element_bytes : Number
        Bytes per element [byte].
    backward : bool
        The backward pass in place of the forward one.

    Source
    ------
    Derived from the operator's inputs and outputs.
    """
    return (3 if backward else 2) * hidden * element_bytes


def scan_bytes(width: Number, state: Number, element_bytes: Number = 2, *, backward: bool = False) -> Number:
    """Bytes of a chunked recurrent scan (Mamba, linear attention) with its convolution and gate, per token.

    Equation
    --------
    bytes = 2 * width * element_bytes + 2 * 4 * state / 128; backward three times that

    Parameters
    ----------
    width : Number
        Elements between the projections on this device [1].
    state : Number
        Elements of the state; one in 32 bits is written and read per 128 tokens [1].
    element_bytes : Number
        Bytes per element [byte].
    backward : bool
        The backward pass in place of the forward one; it computes the forward pass again.

    Source
    ------
    Dao and Gu 2024 (Mamba-2), arXiv 2405.21060, section 6: chunks in fast memory, states passed between them.
    """
    return (3 if backward else 1) * (2 * width * element_bytes + 8 * state / 128)


def loss_bytes(vocabulary: Number, kind: str = "full") -> Number:
    """Bytes of softmax and loss over the vocabulary, forward and backward, per token.

    Equation
    --------
    bytes = vocabulary * 28 (full, chunked) or 4 (fused)

    Parameters
    ----------
    vocabulary : Number
        Logits on this device [1].
    kind : str
        full, chunked or fused.

    Source
    ------
    Derived from torch's cross-entropy in 32 bits; fused: Hsu et al. 2024 (Liger), arXiv 2410.10989.
    """
    return vocabulary * LOSS_PASSES[kind]


def low_rank_bytes(inputs: Number, outputs: Number, element_bytes: Number = 2, adapter_bytes: Number = 2, *,
                   eager: bool = False, backward: bool = False) -> Number:  # fmt: skip
    """Bytes that a low-rank adapter moves beside its matrix, per token.

    Equation
    --------
    fused: bytes = inputs * e + outputs * 2 e; backward inputs * 3 e + outputs * 2 e
    eager: bytes = inputs * (e + 2 a) + outputs * (2 e + 4 a); backward inputs * (4 e + 3 a) + outputs * (e + 5 a)

    Parameters
    ----------
    inputs, outputs : Number
        Size of the adapted matrix on this device [1].
    element_bytes : Number
        Bytes per activation, e [byte].
    adapter_bytes : Number
        Bytes per number of the adapter, a; its input is cast to it and its output back [byte].
    eager : bool
        Whether casts, scaling and the addition to the matrix' output each read and write all of it.
    backward : bool
        The backward pass in place of the forward one.

    Source
    ------
    Counted in PEFT's tuners/lora/layer.py: cast, two products, scaling, addition; its inner width is left out.
    """
    e, a = element_bytes, adapter_bytes
    if not eager:
        return (3 if backward else 1) * inputs * e + 2 * outputs * e
    if backward:
        return inputs * (4 * e + 3 * a) + outputs * (e + 5 * a)
    return inputs * (e + 2 * a) + outputs * (2 * e + 4 * a)
