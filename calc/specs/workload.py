"""What is done with the model: the `training` and `inference` sections of a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calc.errors import BadValueError, CalcError, shown
from calc.specs.fields import entry, key
from calc.units import parse
from calc.xp import Number, maximum

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4", "mxfp4")
RECOMPUTE_MODULES = ("core_attn", "mlp", "moe", "moe_act", "layernorm", "mla_up_proj", "shared_experts")
DEFAULT_INPUT, DEFAULT_OUTPUT = 1024, 256
ADAPTER = {"kind": entry("name"), "rank": entry("count", whole=True, minimum=1), "targets": entry("texts"),
           "format": entry("name", choices=("fp32", "bf16", "fp16")), "dropout": entry("share", maximum=1),
           "share": entry("share", maximum=1)}  # fmt: skip
SPECULATIVE = {"draft": entry("any"), "length": entry("count", whole=True, minimum=1),
               "acceptance": entry("share", maximum=1)}  # fmt: skip
DISAGGREGATED = {name: entry("count", whole=True, minimum=1) for name in ("prefill_devices", "decode_devices")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training or fine-tuning run."""

    sequence_length: Number = key("length", 2048, minimum=1, maximum=2**30, doc="tokens per sequence")
    global_batch_size: Number | None = key("count?", None, whole=True, minimum=1, doc="sequences per optimizer step")
    micro_batch_size: Number = key("count", 1, whole=True, minimum=1, doc="sequences per forward pass of a replica")
    tokens: float | None = key("count?", None, minimum=1, doc="tokens of the whole run")
    precision: str = key("name", "bf16", choices=PRECISIONS, doc="format of matrix multiplications")
    recipe: str | None = key("name?", None, doc="which copies are stored in which format; default the software's")
    kernels: str | None = key("name?", None, choices=("fused", "eager"), doc="what kernels keep for backward")
    loss: str = key("name", "full", choices=("full", "fused", "chunked"), doc="what logits and loss keep")
    optimizer: str = key("name", "adamw", doc="optimizer, a name from its catalogue")
    recompute: tuple[str, ...] = key("texts", ("none",), choices=("none", "selective", "full", *RECOMPUTE_MODULES),
                                     doc="what the backward pass computes again")  # fmt: skip
    recompute_layers: Number | None = key("count?", None, whole=True, doc="layers of a stage recomputed under `full`")
    attention: str = key("name", "flash", choices=("flash", "unfused"), doc="attention kernel")
    dropout: float = key("share", 0.0, maximum=1, doc="dropout probability; above 0 masks are stored")
    adapter: dict[str, Any] | None = key("mapping?", None, entries=ADAPTER,
                                         doc="kind, rank, targets; absent: all parameters train")  # fmt: skip
    base_format: str | None = key("name?", None, doc="format of frozen weights under an adapter")
    mean_length: Number | None = key("length?", None, minimum=1, maximum=2**30,
                                     doc="mean tokens of documents packed into a sequence; default one")  # fmt: skip
    loss_chunks: Number = key("count", 8, whole=True, minimum=1, doc="pieces that `loss: chunked` computes in turn")
    mtp: bool = key("flag", False, doc="whether multi-token-prediction layers are trained too")
    capacity_factor: float | None = key("count?", None, minimum=0.01,
                                        doc="experts padded to it, of a balanced load; default dropless")  # fmt: skip
    expert_imbalance: float | None = key("count?", None, minimum=1,
                                         doc="load of the busiest device's experts, of the balanced one")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """One serving workload."""

    weight_format: str | None = key("name?", None, doc="format of the weights; default the checkpoint's own")
    kv_format: str | None = key("name?", None, doc="format of keys and values; default the device's 16-bit format")
    input_length: Number | None = key("length?", None, minimum=1,
                                      doc="tokens of a prompt; default max_context less output, else 1024")  # fmt: skip
    output_length: Number = key("length", DEFAULT_OUTPUT, minimum=0, doc="tokens generated")
    batch_size: Number = key("count", 1, whole=True, minimum=1, doc="sequences decoded together, in all replicas")
    max_context: Number | None = key("length?", None, minimum=1,
                                     doc="tokens a sequence may reach; default input + output")  # fmt: skip
    memory_utilization: float | None = key("share?", None, minimum=1e-3, maximum=1,
                                           doc="share of the device the engine may take")  # fmt: skip
    gpu_layers: int | None = key("count?", None, whole=True, doc="layers kept on the device; default all")
    cpu_moe_layers: int = key("count", 0, whole=True, doc="first layers whose routed experts stay on the host")
    kv_budget: str | float = key("any", "100%", doc="share (50%) or number of tokens whose KV is kept")
    speculative: dict[str, Any] | None = key("mapping?", None, entries=SPECULATIVE, doc="draft, length, acceptance")
    disaggregated: dict[str, Any] | None = key("mapping?", None, entries=DISAGGREGATED,
                                               doc="prefill_devices, decode_devices")  # fmt: skip

    @property
    def context(self) -> Number:
        """Tokens that a sequence may reach [token]."""
        if self.max_context is not None:
            return self.max_context
        return (DEFAULT_INPUT if self.input_length is None else self.input_length) + self.output_length

    def prompt(self, context: Number) -> Number:
        """Tokens of a prompt [token]: given, or what a sequence of `context` tokens leaves beside the output."""
        return maximum(1, context - self.output_length) if self.input_length is None else self.input_length


def kv_budget(value: Any) -> tuple[Number, Number | None]:
    """Share of the context, or number of tokens, whose keys and values are kept.

    Examples
    --------
    >>> kv_budget("20%"), kv_budget(2048)
    ((0.2, None), (1.0, 2048))
    """
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            share = parse(value, "share")
            if not 0 < share <= 1:
                raise BadValueError("")
            return share, None
        tokens = parse(value, "length")
    except CalcError:
        tokens = 0.0
    if tokens < 1 or tokens != int(tokens):
        raise BadValueError(f"kv_budget is a share up to 100% or a whole number of tokens, got {shown(value)}")
    return 1.0, int(tokens)
