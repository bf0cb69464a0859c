"""Pieces that mixture-of-experts families share: which layers have experts, and what the layers are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from calc.architecture.attention import Attention
from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.model import Layer, Model
from calc.architecture.part import Part
from calc.importers.families.common import (
    EXPERTS,
    HIDDEN,
    INNER,
    LAYERS,
    SLIDING,
    TOP_K,
    Traits,
    decoder,
    experts,
    feed_forward,
    kind_of,
    norm,
    self_attention,
    windowed,
    windows,
)
from calc.importers.keys import Keys

SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
SPARSE = ("sparse", "moe", "hash_moe")
"""Words of `mlp_layer_types` for a layer with experts."""
FULL = ("full_attention", "indexed_attention", "attention", "global", "global_attention", "deepseek_sparse_attention")
"""Words of `layer_types` for a layer that sees all tokens."""
ONE_EXPERT = ("moe_intermediate_size", "intermediate_size")
"""Keys for the inner width of one expert."""

Chosen = Sequence[bool]
"""For each layer, whether it has experts (or a window)."""


def everywhere(c: Keys) -> Chosen:
    """Experts in all layers."""
    return [True] * c.layers(*LAYERS)


def by_types(c: Keys, count: int, otherwise: Chosen) -> Chosen:
    """As `mlp_layer_types` says, or as `otherwise`."""
    types = c.texts("mlp_layer_types", length=count)
    for kind in types or ():
        if kind not in (*SPARSE, "dense"):
            raise c.wrong("mlp_layer_types", f"dense or one of {', '.join(SPARSE)}", kind)
    return [kind in SPARSE for kind in types] if types else otherwise


def after_first(c: Keys, count: int, first: int = 0) -> Chosen:
    """All but the first `first_k_dense_replace`, every `moe_layer_freq`-th (or those that a list marks)."""
    first = c.whole("first_k_dense_replace", default=first, minimum=0)
    marked = c.raw("moe_layer_freq", default=1)
    if isinstance(marked, list):
        given = c.wholes("moe_layer_freq", length=count) or []
        return [index >= first and bool(mark) for index, mark in enumerate(given)]
    every = c.whole("moe_layer_freq", default=1)
    return [index >= first and index % every == 0 for index in range(count)]


def by_step(c: Keys, count: int, dense: Sequence[int] = ()) -> Chosen:
    """Every `decoder_sparse_step`-th but those of `mlp_only_layers`; none where there are no experts."""
    given = c.wholes("mlp_only_layers")
    without = frozenset(dense if given is None else given)
    step = c.whole("decoder_sparse_step", default=1)
    some = c.whole("num_experts", "num_local_experts", default=0, minimum=0) > 0
    return [some and index not in without and (index + 1) % step == 0 for index in range(count)]


# the layers' parts


def mixtures(c: Keys, traits: Traits, mixers: Sequence[Part], chosen: Chosen, routed: Part | None,
             plain: Part | None = None, *, extra: tuple[Part, ...] = ()) -> Model:  # fmt: skip
    """A decoder whose layer `i` has `mixers[i]`, and `routed` experts where chosen, else the `plain` network.

    `extra` is what every layer has besides.
    """
    norms = (norm(traits, c.whole(*HIDDEN), traits.norms),) if traits.norms else ()

    def layer(index: int) -> Layer:
        mixer, channel = mixers[index], routed if chosen[index] else plain
        word = kind_of(mixer) if isinstance(mixer, Attention) else "full_attention"
        kind = f"{word} + experts" if chosen[index] else word
        return Layer(kind=kind, parts=(*norms, mixer, *((channel,) if channel else ()), *extra))

    return decoder(c, traits, layer, layers=len(mixers))


def attentions(c: Keys, traits: Traits, count: int) -> list[Attention]:
    """Attention of each layer, with windows as `traits.full_every` and the configuration say."""
    own = self_attention(c, traits, c.whole(*HIDDEN))
    if traits.full_every is None:
        return [own] * count
    return [windowed(own, size) for size in windows(c, count, every=traits.full_every, first=traits.full_first)]


def local_layers(c: Keys, count: int, rule: Callable[[int], bool]) -> Chosen:
    """For each layer, whether it sees a window only: as `layer_types` says, else by its index."""
    types = c.texts("layer_types", length=count)
    for kind in types or ():
        if kind not in (*SLIDING, *FULL):
            raise c.wrong("layer_types", f"one of {', '.join((*SLIDING, *FULL))}", kind)
    return [kind in SLIDING for kind in types] if types else [rule(index) for index in range(count)]


def seeing(own: Attention, window: int | None, local: Chosen) -> list[Attention]:
    """The same attention in each layer, with the window where `local`."""
    return [windowed(own, window if here else None) for here in local]


def plain_network(c: Keys, traits: Traits, chosen: Chosen, *names: str) -> FeedForward | None:
    """The network of the layers without experts, or None where all have them (its keys may be absent then)."""
    c.ignore(*(names or INNER))
    return None if all(chosen) else feed_forward(c, traits, c.whole(*HIDDEN), *names)


def shared_width(c: Keys, inner: int, default: int = 0) -> int:
    """Inner width of the experts that every token passes: their number times one's."""
    return inner * c.whole(*SHARED, default=default, minimum=0)


def routed_experts(c: Keys, chosen: Chosen, *, bias: bool = False, correction: bool = False,
                   inner: tuple[str, ...] = ONE_EXPERT) -> Experts | None:  # fmt: skip
    """Experts by the usual keys, with as many shared ones as the keys say; None where no layer has any."""
    if not any(chosen):
        c.ignore(*EXPERTS, *TOP_K, *SHARED, *inner)
        return None
    own = experts(c, c.whole(*HIDDEN), inner=inner)
    return replace(own, shared_intermediate_size=shared_width(c, own.moe_intermediate_size), shared_bias=bias,
                   correction=correction, router_fp32=True)  # fmt: skip


def experts_beside(c: Keys, chosen: Chosen, shared: int, *, gate: bool = False,
                   inner: tuple[str, ...] = ONE_EXPERT) -> Experts | None:  # fmt: skip
    """Experts beside a shared network of a given width, gated by one value or not; None where no layer has any."""
    own = routed_experts(c, chosen, inner=inner)
    gated = gate and bool(shared)
    return replace(own, shared_intermediate_size=shared, shared_gate=gated, router_fp32=False) if own else None


def standard(c: Keys, traits: Traits, chosen: Chosen, *, bias: bool = False, correction: bool = False) -> Model:
    """Attention by the usual keys, experts by the usual keys, a plain network where there are none."""
    mixers = attentions(c, traits, len(chosen))
    routed = routed_experts(c, chosen, bias=bias, correction=correction)
    return mixtures(c, traits, mixers, chosen, routed, plain_network(c, traits, chosen))


def with_keys(c: Keys, **changed: int) -> Keys:
    """The same configuration with some keys changed; what is read of it counts as read of the file."""
    found = Keys(c.data | changed, c.document, c.path, c.defaults, c.notes)
    found.read, found.sections = c.read, c.sections
    return found
