"""Mixture of experts: a router, routed experts, and experts that every token passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from calc.architecture.attention import probabilities
from calc.architecture.feed_forward import activated
from calc.architecture.part import Cache, Form, Part, Saved, Scores, Split, Weight, linear, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts(Part):
    """`num_experts` feed-forward experts of which each token takes `num_experts_per_tok`.

    All are stored, few are used: `copies` counts the first, `used` the second.
    Source: Megatron-LM `theoretical_memory_usage.py`; DeepSeekMoE, arXiv 2401.06066, section 3.
    """

    hidden_size: int
    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    """A trained bias of the router (a correction buffer, as in DeepSeek-V3, is no parameter)."""
    correction: bool = False
    """The router's load-balancing correction is stored as a parameter (ERNIE 4.5), not as a buffer."""
    router: bool = True
    """False where this part shares another's router, or has one of its own kind."""
    router_outputs: int = 0
    """Classes that the router chooses among where they aren't the experts alone; 0 means `num_experts`."""
    zero_experts: int = 0
    """Choices that compute nothing (identity experts of LongCat): a token that takes one saves an expert."""
    shared_intermediate_size: int = 0
    """Total inner width of the experts that every token passes; 0 for none."""
    shared_bias: bool = False
    shared_gate: bool = False
    """A one-output gate on the shared experts (Qwen2-MoE)."""
    latent_size: int = 0
    """Width that the routed experts work in, with projections down and up around them; 0 is `hidden_size`."""
    latent_bias: bool = False
    activation: str = ""
    """Activation function, by transformers' name; empty is one that torch has a kernel for."""
    router_fp32: bool = False
    """The router reads a copy of its input in fp32 (DeepSeek)."""
    group: ClassVar[str] = "experts"

    @property
    def used(self) -> float:
        """Experts that one token computes, on average over a balanced router's choices."""
        if not self.zero_experts:
            return self.num_experts_per_tok
        return self.num_experts_per_tok * self.num_experts / (self.num_experts + self.zero_experts)

    def weights(self) -> tuple[Weight, ...]:
        hidden, inner = self.hidden_size, self.moe_intermediate_size
        width = self.latent_size or hidden

        def expert(name: str, inputs: int, outputs: int) -> Weight:
            split: Split = "row" if name == "down" else "column"
            return linear(name, inputs, outputs, bias=self.bias, role="expert", copies=self.num_experts, used=self.used,
                          split=split)  # fmt: skip

        found = self._router_weights()
        if self.latent_size:
            found.append(linear("latent_down", hidden, width, bias=self.latent_bias))
            found.append(linear("latent_up", width, hidden, bias=self.latent_bias))
        if self.gated:
            found.append(expert("gate", width, inner))
        found.append(expert("up", width, inner))
        found.append(expert("down", inner, width))
        if self.shared_intermediate_size:
            found.extend(self._shared_weights())
        return tuple(found)

    def _router_weights(self) -> list[Weight]:
        choices = (self.router_outputs or self.num_experts) + self.zero_experts
        found = []
        if self.router:
            found.append(linear("router", self.hidden_size, choices, bias=self.router_bias, role="router"))
        if self.correction:
            found.append(vector("router_correction", self.num_experts))
        return found

    def _shared_weights(self) -> list[Weight]:
        hidden, inner, bias = self.hidden_size, self.shared_intermediate_size, self.shared_bias
        names = (["shared_gate_proj"] if self.gated else []) + ["shared_up"]
        found = [linear(name, hidden, inner, bias=bias, split="column") for name in names]
        found.append(linear("shared_down", inner, hidden, bias=bias, split="row"))
        if self.shared_gate:
            found.append(vector("shared_expert_gate", hidden))
        return found

    def scan(self) -> float:
        """The gate of the shared experts, which is one output wide."""
        return 2.0 * self.hidden_size if self.shared_gate and self.shared_intermediate_size else 0.0

    def saved(self) -> tuple[Saved, ...]:
        found = [self._saved_input(), *self._saved_routed()]
        if self.shared_intermediate_size:
            names, again = ("shared_gate_proj", "shared_up", "shared_down"), ("moe", "shared_experts")
            found += activated(self.shared_intermediate_size, self.activation, gated=self.gated, matrices=names,
                               modules=again)  # fmt: skip
            if self.shared_gate:
                found.append(Saved(name="shared_output", width=self.hidden_size + 1, split="sequence", modules=again))
        found.append(Saved(name="dropout", width=self.hidden_size, format="mask", split="sequence", dropout=True))
        return tuple(found)

    def _saved_input(self) -> Saved:
        readers = [weight.name for weight in self.weights() if weight.split != "row" and weight.role == "linear"]
        readers += ["router"] if self.router else []
        return Saved(name="input", width=self.hidden_size, split="sequence", modules=("layernorm",),
                     inputs_of=tuple(readers), casts=max(len(readers), 1))  # fmt: skip

    def _saved_routed(self) -> list[Saved]:
        """The router's scores, and what the experts chosen keep of a token: its copies, inner features, outputs."""
        used, width = self.used, self.latent_size or self.hidden_size
        choices = (self.router_outputs or self.num_experts) + self.zero_experts

        def small(name: str, size: float, form: Form, kernels: Literal["", "eager"] = "eager") -> Saved:
            return Saved(name=name, width=size, format=form, split="sequence", modules=("moe",), kernels=kernels)

        found = [small("indices", 4 * used, "int64"), small("shares", 2 * used + 1, "fp32")]
        if self.router:
            found.append(small("router", choices, "fp32", ""))
        if self.router_fp32:
            found += [small("router_input", self.hidden_size, "upcast"), small("router", choices, "fp32")]
        if self.latent_size:
            found.append(Saved(name="combined", width=width, split="sequence", modules=("moe",),
                               inputs_of=("latent_up",)))  # fmt: skip
        return [
            *found,
            Saved(name="copies", width=used * width, split="none", modules=("moe",), routed=True,
                  inputs_of=("gate", "up") if self.gated else ("up",)),
            *activated(used * self.moe_intermediate_size, self.activation, gated=self.gated, split="expert",
                       modules=("moe",), product_modules=("moe_act",), routed=True),
            Saved(name="outputs", width=used * width, split="none", modules=("moe",), routed=True),
        ]  # fmt: skip

    def width(self) -> int:
        matrices = 3 if self.gated else 2
        width = self.latent_size or self.hidden_size
        routed = self.num_experts_per_tok * (matrices * self.moe_intermediate_size + 2 * width)
        return routed + matrices * self.shared_intermediate_size


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertAttention(Part):
    """Mixture of attention heads: query and output projections are routed experts, keys and values are common.

    A token's `num_experts_per_tok` experts each bring `num_key_value_heads` query heads.
    Source: Zhang et al. 2022, arXiv 2210.05144; JetMoE, arXiv 2404.07413, section 2.2.
    """

    hidden_size: int
    num_experts: int
    num_experts_per_tok: int
    num_key_value_heads: int
    head_dim: int
    window: int | None = None
    group: ClassVar[str] = "attention"

    def weights(self) -> tuple[Weight, ...]:
        hidden, heads = self.hidden_size, self.num_key_value_heads
        count, used, inner = self.num_experts, self.num_experts_per_tok, heads * self.head_dim
        return (
            linear("router", hidden, count, role="router"),
            linear("q", hidden, inner, role="expert", copies=count, used=used, split="column", units=heads),
            linear("k", hidden, inner, split="column", units=heads),
            linear("v", hidden, inner, split="column", units=heads),
            linear("o", inner, hidden, role="expert", copies=count, used=used, split="row", units=heads),
            vector("o_bias", hidden),
        )

    def cache(self) -> tuple[Cache, ...]:
        heads, width = self.num_key_value_heads, self.head_dim
        return (
            Cache(name="k", heads=heads, width=width, window=self.window),
            Cache(name="v", heads=heads, width=width, window=self.window),
        )

    def scores(self) -> tuple[Scores, ...]:
        heads, size = self.num_key_value_heads, self.head_dim
        return (Scores(heads=self.num_experts_per_tok * heads, qk_dim=size, v_dim=size, kv_heads=heads,
                       window=self.window),)  # fmt: skip

    def saved(self) -> tuple[Saved, ...]:
        heads, used, key = self.num_key_value_heads, self.num_experts_per_tok, self.num_key_value_heads * self.head_dim
        return (
            Saved(name="input", width=self.hidden_size, split="sequence", modules=("layernorm",),
                  inputs_of=("router", "k", "v"), casts=3),
            Saved(name="router", width=self.num_experts, format="fp32", split="sequence"),
            Saved(name="copies", width=used * self.hidden_size, split="none", inputs_of=("q",)),
            Saved(name="q", width=used * key),
            Saved(name="k", width=key, units=heads),
            Saved(name="v", width=key, units=heads),
            *probabilities(used * heads),
            Saved(name="context", width=used * key),
            Saved(name="outputs", width=used * self.hidden_size, split="none"),
        )  # fmt: skip

    def width(self) -> int:
        return (2 * self.num_experts_per_tok + 2) * self.num_key_value_heads * self.head_dim
