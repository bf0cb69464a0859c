"""Activations of whole stages: what one layer keeps per token, times layers, tokens and micro-batches under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.part import Part
from calc.formulas.activations import Kept
from calc.memo import ByIdentity
from calc.xp import Number, maximum


def activation_bytes(layers: Number, tokens: Number, token_bytes: Number, in_flight: Number = 1) -> Number:
    """Activations that a device keeps for the backward passes of all its micro-batches under way.

    Equation
    --------
    bytes = layers * tokens * token_bytes * in_flight

    Parameters
    ----------
    layers : Number
        Equal layers on the device [1].
    tokens : Number
        Tokens of a micro-batch on it [token].
    token_bytes : Number
        Bytes that one layer keeps per token, on this device [byte].
    in_flight : Number
        Micro-batches whose backward pass is still to come [1].

    Source
    ------
    Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.3 (first stage: all layers' worth under 1F1B).

    Examples
    --------
    GPT-3 over 8 tensor and 8 pipeline ranks, first stage, all attention scores kept: 32.06 GiB.

    >>> round(activation_bytes(12, 2048, 12288 / 8 * (34 + 5 * 96 * 2048 / 12288), 8) / 2**30, 2)
    32.06
    """
    return layers * tokens * token_bytes * in_flight


def loss_bytes(tokens: Number, token_bytes: Number) -> Number:
    """Logits, or what the loss keeps or needs beside them, of one micro-batch.

    Equation
    --------
    bytes = tokens * token_bytes

    Parameters
    ----------
    tokens : Number
        Tokens of a micro-batch on the device [token].
    token_bytes : Number
        Bytes per token, of the device's part of the vocabulary [byte].

    Source
    ------
    `calc.formulas.activations.loss_bytes`, measured with torch 2.13 and transformers 5.23.
    """
    return tokens * token_bytes


def copied_matrix_bytes(elements: Number, element_bytes: Number) -> Number:
    """The copy of one matrix in another format that a product makes while it computes: widened where the weight is
    quantized, narrowed where the precision is below the weight's.

    Equation
    --------
    bytes = elements * element_bytes

    Parameters
    ----------
    elements : Number
        Elements of the largest matrix [1].
    element_bytes : Number
        Bytes per element of the copy [byte].

    Source
    ------
    bitsandbytes autograd/_functions.py, MatMul4Bit: forward and backward dequantize the whole weight; torchao
    float8_linear.py: the weight is cast in each pass.
    """
    return elements * element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """What differentiating one part needs beside what it kept, in elements per token."""

    columns: float = 0
    """Outputs of the matrices that read its input: their gradients, all at once."""
    expert: float = 0
    """The same of routed experts, of all that a token passes."""
    latent: float = 0
    """Outputs of matrices that tensor parallelism leaves whole."""
    heads: float = 0
    """Query heads whose scores are differentiated where they are written out."""


def _working(parts: tuple[Part, ...]) -> tuple[Working, ...]:
    found = []
    for part in parts:
        sums = {"columns": 0.0, "expert": 0.0, "latent": 0.0}
        for weight in part.weights():
            if weight.role == "expert" and weight.split == "column":
                sums["expert"] += weight.used * weight.outputs
            elif weight.role == "linear" and weight.split != "row":
                sums["columns" if weight.split == "column" else "latent"] += weight.used * weight.outputs
        heads = sum(scores.heads for scores in part.scores())
        if heads or any(sums.values()):
            found.append(Working(heads=heads, **sums))
    return tuple(found)


working: Callable[[tuple[Part, ...]], tuple[Working, ...]] = ByIdentity(_working)
"""What differentiating each part of a layer needs beside what it kept."""


def working_token_bytes(
    parts: tuple[Working, ...], hidden_size: Number, element_bytes: Number, *, tensor: Number = 1,
    residual: Number = 1, expert_share: Number = 1, keys: Number = 0,
) -> Number:  # fmt: skip
    """Gradients of activations that are alive at once in the backward pass of a layer, per token.

    Equation
    --------
    bytes = element_bytes * (2 * hidden_size / residual + max over parts of
    (whole + (columns + heads * keys) / tensor + experts * expert_share))

    Parameters
    ----------
    parts : tuple of Working
        What the parts of the layer write gradients of: the outputs of the matrices that read its input. What those
        gradients are made of frees as much as it takes: the gradient of the product takes the place of the product.
    hidden_size : Number
        Residual stream, of which the gradient comes in and goes out [1].
    element_bytes : Number
        Bytes per element of an activation [byte].
    tensor : Number
        Degree of tensor parallelism [1].
    residual : Number
        Devices that the residual stream is divided over: the tensor group with sequence parallelism, else 1 [1].
    expert_share : Number
        Routed experts' part of a device: imbalance, over expert tensor parallelism, of the tokens it gets [1].
    keys : Number
        Keys per token where attention scores are written out, else 0 [token].

    Source
    ------
    Backward of a gated feed-forward network (torch.autograd order); torch 2.13's memory tracker on Llama-3.1-8B under
    full recomputation, first layer: gradients of 3 f + h elements with the product freed.

    Examples
    --------
    Llama-3.1-8B, 8192 tokens: gradients of gate and up, in and out, 0.56 GiB.

    >>> layer = (Working(columns=2 * 14336), Working(columns=6144, heads=32))
    >>> round(8192 * working_token_bytes(layer, 4096, 2) / 2**30, 2)
    0.56
    """
    widest: Number = 0
    for part in parts:
        width: Number = part.latent + (part.columns + part.heads * keys) / tensor
        if part.expert:
            width = width + part.expert * expert_share
        widest = maximum(widest, width)
    return element_bytes * (2 * hidden_size / residual + widest)


def _kept_products(parts: tuple[Part, ...], names: tuple[str, ...], hidden_size: int, element_bytes: float) -> Kept:
    tensor, sequence, dispatched, expert = 0.0, hidden_size * element_bytes, 0.0, 0.0
    for part in parts:
        for weight in part.weights():
            size = weight.used * weight.outputs * element_bytes
            if weight.name not in names:
                continue
            if weight.role == "expert" and weight.split == "row":
                dispatched += size
            elif weight.role == "expert":
                expert += size
            elif weight.split == "column":
                tensor += size
            else:
                sequence += size
        if "scores" in names:
            tensor += sum(scores.heads * (scores.v_dim * element_bytes + LOG_SUM) for scores in part.scores())
    return Kept(tensor=tensor, sequence=sequence, dispatched=dispatched, expert=expert)


kept_products: Callable[[tuple[Part, ...], tuple[str, ...], int, float], Kept] = lru_cache(maxsize=512)(_kept_products)
"""What a layer keeps that is run again but for some matrices: its input, their products, and (for `scores`) the
attention's output and log-sum-exp."""


def inputs(parts: tuple[Part, ...], element_bytes: float) -> Kept:
    """Inputs of all matrices, each its own: what products with quantized weights keep that save them whatever trains.

    >>> inputs((FeedForward(hidden_size=4096, intermediate_size=11008, gated=True),), 2).tensor / 2
    11008.0
    """
    tensor, sequence, dispatched, expert = 0.0, 0.0, 0.0, 0.0
    for weight in (weight for part in parts for weight in part.weights()):
        size = weight.used * weight.inputs * element_bytes
        if weight.role == "expert":
            dispatched, expert = (dispatched, expert + size) if weight.split == "row" else (dispatched + size, expert)
        elif weight.role == "linear":
            tensor, sequence = (tensor + size, sequence) if weight.split == "row" else (tensor, sequence + size)
    return Kept(tensor=tensor, sequence=sequence, dispatched=dispatched, expert=expert)


LOG_SUM = 4.0
"""Bytes of the log-sum-exp of a token and head."""


def _torch_activations(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(replace(part, activation="") if isinstance(part, FeedForward | Experts) else part for part in parts)


with_torch_activations: Callable[[tuple[Part, ...]], tuple[Part, ...]] = ByIdentity(_torch_activations)
"""Parts whose activation functions are single kernels of torch, whatever the model's own code does."""


def static_gradient_bytes(elements: Number, element_bytes: Number) -> Number:
    """Stand-ins for weight gradients that fused kernels add to the gradient buffer themselves, one for each shape.

    Equation
    --------
    bytes = elements * element_bytes

    Parameters
    ----------
    elements : Number
        Elements of the matrices of differing shapes on a device [1].
    element_bytes : Number
        Bytes per element of the weights [byte].

    Source
    ------
    Transformer Engine, module/base.py get_dummy_wgrad (kept by shape and type) with gradient accumulation fusion.

    Examples
    --------
    Llama-3-70B: qkv, output, gate with up, and down, 1.6 GiB.

    >>> round(static_gradient_bytes(8192 * (10240 + 8192 + 57344 + 28672), 2) / 2**30, 2)
    1.59
    """
    return elements * element_bytes


def table_gradient_bytes(elements: Number, element_bytes: Number) -> Number:
    """Gradient of a vocabulary table as backward writes it, before it is added to what is kept.

    Equation
    --------
    bytes = elements * element_bytes

    Parameters
    ----------
    elements : Number
        Elements of the table on the device [1].
    element_bytes : Number
        Bytes per element of the weights [byte].

    Source
    ------
    torch.nn.functional.embedding and linear: dense gradients of the weight's own size and type.
    """
    return elements * element_bytes


def boundary_bytes(tensors: Number, tokens: Number, token_bytes: Number, in_flight: Number) -> Number:
    """What a pipeline engine keeps of each micro-batch under way at a stage's ends, beside what layers keep.

    Equation
    --------
    bytes = tensors * tokens * token_bytes * in_flight

    Parameters
    ----------
    tensors : Number
        Tensors of the residual stream's size: DeepSpeed keeps what it received and what it sent [1].
    tokens : Number
        Tokens of a micro-batch on the device [token].
    token_bytes : Number
        Bytes per token of the residual stream [byte].
    in_flight : Number
        Micro-batches whose backward pass is still to come [1].

    Source
    ------
    DeepSpeed runtime/pipe/engine.py (pipe_buffers: inputs and outputs).
    """
    return tensors * tokens * token_bytes * in_flight


def context_bytes(blocks: Number, tokens: Number, key_value_elements: Number, element_bytes: Number) -> Number:
    """Keys and values of other ranks' tokens that context parallelism holds while attention computes.

    Equation
    --------
    bytes = blocks * tokens * key_value_elements * element_bytes

    Parameters
    ----------
    blocks : Number
        Blocks of a rank's tokens that are there at once: 2 around a ring (one computes, one arrives), all of the
        sequence's where keys are gathered, none where heads are exchanged [1].
    tokens : Number
        Tokens of a micro-batch on the device [token].
    key_value_elements : Number
        Keys and values per token and layer, on the device [1].
    element_bytes : Number
        Bytes per element [byte].

    Source
    ------
    Liu et al. 2023 (ring attention), arXiv 2310.01889, section 3; Llama 3, arXiv 2407.21783, section 3.3.2 (gathered).

    Examples
    --------
    Llama-3 gathering 131072 tokens' keys and values of one layer, 8 heads of 128: 0.5 GiB.

    >>> context_bytes(16, 8192, 2 * 8 * 128, 2) / 2**30
    0.5
    """
    return blocks * tokens * key_value_elements * element_bytes
