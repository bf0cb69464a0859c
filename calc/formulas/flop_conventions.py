"""Training FLOPs as others count them, by name, beside the exact count of `calc.formulas.flops`.

A published TFLOP/s or MFU says little without its convention: causal attention halved or not, the head in or out,
recomputation in or out.
"""

from __future__ import annotations

from calc.architecture.model import Model
from calc.formulas.flops import forward_scores, recomputed_flops, stacked, token_flops
from calc.xp import Number


def parameter_flops(parameters: Number, tokens: Number = 1, passes: Number = 6) -> Number:
    """The short form: each parameter multiplies and adds once per token and pass.

    Equation
    --------
    FLOPs = passes * parameters * tokens

    Parameters
    ----------
    parameters : Number
        Parameters that a token passes; which of them are counted is the caller's convention [1].
    tokens : Number
        Tokens trained on [token].
    passes : Number
        6: forward and backward; 8: the forward pass again too; 2: forward alone [1].

    Source
    ------
    Kaplan et al. 2020, arXiv 2001.08361, section 2.1.

    Examples
    --------
    GPT-3 on 300 B tokens; its paper gives 3.14e23:

    >>> f"{parameter_flops(174.6e9, 300e9):.3g}"
    '3.14e+23'
    """
    return passes * parameters * tokens


def megatron_flops(layers: Number, hidden: Number, vocabulary: Number, sequence: Number, recompute: bool) -> Number:
    """Per token of a GPT with a feed-forward network four times its width, as Megatron-LM's 2021 paper counts.

    Equation
    --------
    FLOPs = 96 * L * h^2 * (1 + s / (6 h) + V / (16 L h)), of which 24 are recomputation of the layers;
    without it FLOPs = 72 * L * h^2 * (1 + s / (6 h) + V / (12 L h))

    Parameters
    ----------
    layers, hidden, vocabulary : Number
        Sizes of the model [1].
    sequence : Number
        Tokens per sequence; attention counts the full square [token].
    recompute : bool
        Whether all layers are recomputed.

    Source
    ------
    Narayanan et al. 2021, arXiv 2104.04473, section 5.1 and appendix.

    Examples
    --------
    GPT-3 in batches of 1536 sequences:

    >>> f"{1536 * 2048 * megatron_flops(96, 12288, 51200, 2048, recompute=True):.4g}"
    '4.511e+18'
    """
    layer = 96 if recompute else 72
    return layer * layers * hidden * hidden * (1 + sequence / (6 * hidden)) + 6 * vocabulary * hidden


def deepseek_flops(layers: Number, hidden: Number, sequence: Number) -> Number:
    """Per token without vocabulary, as DeepSeek LLM measures the scale of a model.

    Equation
    --------
    M = 72 * L * h^2 + 12 * L * h * s

    Parameters
    ----------
    layers, hidden : Number
        Sizes of the model [1].
    sequence : Number
        Tokens per sequence [token].

    Source
    ------
    DeepSeek LLM, arXiv 2401.02954, section 3.2.

    Examples
    --------
    Six times the parameters without embeddings is 0.92 of it for 80 layers of 8192 at 4096 tokens:

    >>> round(6 * 12 * 80 * 8192**2 / deepseek_flops(80, 8192, 4096), 2)
    0.92
    """
    return 72 * layers * hidden * hidden + 12 * layers * hidden * sequence


def utilization(tokens_per_s: Number, flops_per_token: Number, devices: Number, peak: Number) -> Number:
    """Share of the devices' peak that a throughput stands for: MFU, HFU, by what is counted per token.

    Equation
    --------
    share = tokens_per_s * flops_per_token / (devices * peak)

    Parameters
    ----------
    tokens_per_s : Number
        Throughput of all devices together [token/s].
    flops_per_token : Number
        Training FLOPs of a token in the chosen convention [FLOP/token].
    devices : Number
        Devices [1].
    peak : Number
        Dense peak of one device [FLOP/s].

    Source
    ------
    Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, appendix B.

    Examples
    --------
    PaLM 540B on 6144 TPU v4: 46.2 %.

    >>> round(100 * utilization(238.3e3, 3.278e12, 6144, 275e12), 1)
    46.2
    """
    return tokens_per_s * flops_per_token / (devices * peak)


def matrix_parameters(model: Model, *, head: bool = True) -> float:
    """Parameters of the matrices that a token passes: chosen experts, tied head; no tables, norms or biases."""
    return sum((piece.work.linear + piece.work.crossed - (0 if head else piece.work.head)) * piece.count
               for piece in stacked(model)) / 2  # fmt: skip


def mfu_flops(model: Model, sequence: Number) -> Number:
    """What MFU counts per token.

    Equation
    --------
    FLOPs = 6 * N + 12 * L * H * Q * T, N = parameters of the matrices that a token passes, head included, input table
    not; windows cut T; 2 * Q = the widths of a key and of a value together

    Parameters
    ----------
    model : Model
    sequence : Number
        Tokens that can meet each other [token].

    Source
    ------
    Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, appendix B.
    """
    scores = sum(piece.count * forward_scores(piece.work, sequence, "full", scorers=False) for piece in stacked(model))
    return 6 * matrix_parameters(model) + 3 * scores


def recomputed_mfu_flops(model: Model, sequence: Number, *, mode: str, modules: tuple[str, ...] = (),
                         rule: str = "whole", saves: tuple[str, ...] = (), share: Number = 1,
                         dropout: float = 0.0) -> Number:  # fmt: skip
    """What HFU counts per token beside MFU's numerator: recomputation of that share of the layers, counted alike."""
    found: Number = 0
    for piece in stacked(model):
        if piece.repeated:
            again = recomputed_flops(piece.work, sequence, "full", mode=mode, modules=modules, rule=rule, saves=saves,
                                     dropout=dropout)  # fmt: skip
            found = found + piece.count * again
    return found * share


def hoffmann_flops(model: Model, sequence: Number) -> Number:
    """Per token with all that a kernel-free count adds: the embedding as a matrix, the softmax, full attention.

    Equation
    --------
    FLOPs = 3 * (2 * V * h + 2 * N + sum over layers of (2 * H * (qk + v) + 3 * H) * s)

    Parameters
    ----------
    model : Model
    sequence : Number
        Tokens per sequence [token].

    Source
    ------
    Hoffmann et al. 2022 (Chinchilla), arXiv 2203.15556, appendix F.
    """
    softmax = sum(piece.count * 3 * scores.heads * sequence
                  for piece in stacked(model) for scores in piece.work.scores)  # fmt: skip
    return 3 * (2 * model.vocab_size * model.hidden_size + softmax) + mfu_flops(model, sequence)


def conventions(model: Model, sequence: Number) -> dict[str, Number]:
    """Training FLOPs per token by convention. The closed forms for GPT (`megatron-2021`, `deepseek-llm`) take the
    model's depth, width and vocabulary, whatever else it is."""
    layers, hidden, vocabulary = model.num_layers, model.hidden_size, model.vocab_size
    return {
        "causal": token_flops(model, sequence).model,
        "full": token_flops(model, sequence, "full").model,
        "6n": parameter_flops(matrix_parameters(model)),
        "kaplan": parameter_flops(matrix_parameters(model, head=False)),
        "palm": mfu_flops(model, sequence),
        "megatron-2021": megatron_flops(layers, hidden, vocabulary, sequence, recompute=False),
        "megatron-2021-recompute": megatron_flops(layers, hidden, vocabulary, sequence, recompute=True),
        "hoffmann": hoffmann_flops(model, sequence),
        "deepseek-llm": deepseek_flops(layers, hidden, sequence),
    }
