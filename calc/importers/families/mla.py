"""Families whose attention keeps one latent per token (MLA), with or without an indexer, and DeepSeek-V4's.

Shapes checked against the classes of transformers 5.23 (`tests/data/families_moe.yaml`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from calc.architecture.compressed_attention import CompressedAttention
from calc.architecture.latent_attention import Indexer, LatentAttention
from calc.architecture.model import Layer, Model
from calc.architecture.norm import Norm
from calc.architecture.part import Extra, Part, Weight, linear, vector
from calc.architecture.residual_streams import ResidualStreams
from calc.importers.families.common import HEADS, HIDDEN, LAYERS, Traits, decoder, experts, feed_forward
from calc.importers.families.mixture import (
    Chosen,
    after_first,
    by_types,
    local_layers,
    plain_network,
    routed_experts,
    shared_width,
    with_keys,
)
from calc.importers.keys import Keys


def latent_attention(c: Keys, *, compressed: bool = True) -> LatentAttention:
    """MLA by the usual keys; `compressed` False where the family projects queries straight from the input."""
    c.ignore("head_dim", "qk_head_dim", "num_key_value_heads")  # derived from the sizes below
    return LatentAttention(
        hidden_size=c.whole(*HIDDEN), num_attention_heads=c.whole(*HEADS), kv_lora_rank=c.whole("kv_lora_rank"),
        qk_nope_head_dim=c.whole("qk_nope_head_dim"), qk_rope_head_dim=c.whole("qk_rope_head_dim", minimum=0),
        v_head_dim=c.whole("v_head_dim"), q_lora_rank=c.optional("q_lora_rank") if compressed else None,
        bias=c.flag("attention_bias"),
    )  # fmt: skip


def indexer(c: Keys, query_inputs: int) -> Indexer:
    """DeepSeek's lightning indexer by the usual keys."""
    return Indexer(hidden_size=c.whole(*HIDDEN), query_inputs=query_inputs, heads=c.whole("index_n_heads"),
                   head_dim=c.whole("index_head_dim"))  # fmt: skip


def indexed(c: Keys, attention: LatentAttention) -> LatentAttention:
    """The attention of a layer whose indexer, or an earlier layer's, picks the tokens."""
    return replace(attention, selected=c.optional("index_topk"))


def indexed_layers(c: Keys, count: int, rule: Callable[[int], bool] | None = None) -> Chosen:
    """For each layer, whether it runs an indexer of its own; the others reuse the choice of the one before.

    `indexer_types` or `index_topk_pattern` (F full, S shared) tell, else every `index_topk_freq`-th does.
    """
    types = c.texts("indexer_types", length=count)
    pattern = c.raw("index_topk_pattern")
    if types is None and pattern is not None:
        marks = pattern if isinstance(pattern, str) else c.texts("index_topk_pattern") or []
        if len(marks) != count or not set(marks) <= {"F", "S", "full", "shared"}:
            raise c.wrong("index_topk_pattern", f"F or S for each of {count} layers", pattern)
        types = ["full" if mark in ("F", "full") else "shared" for mark in marks]
    every = c.whole("index_topk_freq", default=1)
    offset = c.whole("index_skip_topk_offset", default=2, minimum=0)
    if types is not None:
        return [kind != "shared" for kind in types]
    known = rule or (lambda index: max(index - offset + 1, 0) % every == 0)
    return [known(index) for index in range(count)]


def stacked(
    c: Keys, mixers: Sequence[tuple[Part, ...]], chosen: Chosen, routed: tuple[Part, ...], plain: Part | None, *,
    traits: Traits | None = None, kinds: Sequence[str] = (),
) -> Model:  # fmt: skip
    """A decoder of two norms, `mixers[i]`, and the `routed` parts where chosen, else the `plain` network."""
    norms = Norm(size=c.whole(*HIDDEN), count=2)

    def layer(index: int) -> Layer:
        word = kinds[index] if kinds else "full_attention"
        channel = routed if chosen[index] else (plain,) if plain else ()
        return Layer(kind=f"{word} + experts" if chosen[index] else word, parts=(norms, *mixers[index], *channel))

    return decoder(c, traits or Traits(), layer, layers=len(mixers))


def _experts(c: Keys, chosen: Chosen) -> tuple[Part, ...]:
    routed = routed_experts(c, chosen)
    return (routed,) if routed else ()


# DeepSeek V2 and V3, and what shares their block


def deepseek_v3(c: Keys) -> Model:
    """DeepSeek V2 and V3, Kimi K2, Mistral 4: MLA, plain layers first, shared experts."""
    count = c.layers(*LAYERS)
    chosen = after_first(c, count)
    return stacked(c, [(latent_attention(c),)] * count, chosen, _experts(c, chosen), plain_network(c, Traits(), chosen))


def glm4_moe_lite(c: Keys) -> Model:
    """GLM 4.7 Flash: the first layer plain."""
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, after_first(c, count, 1))
    return stacked(c, [(latent_attention(c),)] * count, chosen, _experts(c, chosen), plain_network(c, Traits(), chosen))


def axk1(c: Keys) -> Model:
    """A.X K1: one more norm, behind the experts."""
    count = c.layers(*LAYERS)
    chosen = by_types(c, count, after_first(c, count, 1))
    routed = (*_experts(c, chosen), Norm(size=c.whole(*HIDDEN)))
    return stacked(c, [(latent_attention(c),)] * count, chosen, routed, plain_network(c, Traits(), chosen))


def youtu(c: Keys) -> Model:
    """Youtu-LLM: MLA without experts."""
    return _plain(c, Traits(tied=True))


def minicpm3(c: Keys) -> Model:
    """MiniCPM3: MLA without experts, biases in the network where switched on."""
    if not c.has("v_head_dim"):  # the published configuration leaves it out
        size = c.divided(c.whole(*HIDDEN), c.whole(*HEADS), ("hidden_size", "num_attention_heads"))
        c = with_keys(c, v_head_dim=size)
    return _plain(c, Traits(tied=True, mlp_bias_key="mlp_bias"))


def _plain(c: Keys, traits: Traits) -> Model:
    count = c.layers(*LAYERS)
    network = feed_forward(c, traits, c.whole(*HIDDEN))
    return stacked(c, [(latent_attention(c),)] * count, [False] * count, (), network, traits=traits)


def longcat_flash(c: Keys) -> Model:
    """LongCat-Flash: two attentions and two plain networks in a layer, experts beside them, some of which do nothing.

    transformers 5.23 allocates first matrices for the experts that do nothing too; checkpoints have none, and they
    are not counted here.
    """
    hidden, count = c.whole(*HIDDEN), c.layers("num_layers", *LAYERS)
    mixer = latent_attention(c)
    network = feed_forward(c, Traits(), hidden, "ffn_hidden_size", "intermediate_size")
    routed = experts(c, hidden, inner=("expert_ffn_hidden_size", "moe_intermediate_size"))
    idle = c.whole("zero_expert_num", default=0, minimum=0)
    routed = replace(routed, router_bias=c.flag("router_bias"), zero_experts=idle)
    parts = (Norm(size=hidden, count=4), mixer, network, mixer, network, routed)
    if routed.zero_experts:
        c.note("a token's experts that do nothing are taken as even a share of its choices as of the router's")
    return decoder(c, Traits(), lambda index: Layer(kind="full_attention + experts", parts=parts), layers=count)


# with an indexer


def deepseek_v32(c: Keys) -> Model:
    """DeepSeek V3.2: V3 with an indexer in every layer."""
    count = c.layers(*LAYERS)
    mixer, chosen = latent_attention(c), by_types(c, count, after_first(c, count, 3))
    c.ignore("layer_types")
    parts = (indexed(c, mixer), indexer(c, mixer.q_lora_rank or mixer.hidden_size))
    kinds = ["indexed_attention"] * count
    return stacked(c, [parts] * count, chosen, _experts(c, chosen), plain_network(c, Traits(), chosen), kinds=kinds)


def glm_moe_dsa(c: Keys) -> Model:
    """GLM 5: as DeepSeek V3.2, but some layers reuse the indexer's choice of an earlier one."""
    count = c.layers(*LAYERS)
    mixer, chosen = latent_attention(c), by_types(c, count, after_first(c, count, 3))
    c.ignore("layer_types")
    own = indexer(c, mixer.q_lora_rank or mixer.hidden_size)
    mixer = indexed(c, mixer)
    mixers = [(mixer, own) if full else (mixer,) for full in indexed_layers(c, count)]
    kinds = ["indexed_attention"] * count
    return stacked(c, mixers, chosen, _experts(c, chosen), plain_network(c, Traits(), chosen), kinds=kinds)


def axk2(c: Keys) -> Model:
    """A.X K2: an output gate that reads the compressed query, as the queries do, twice; low-rank gates on norms."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    chosen = by_types(c, count, after_first(c, count, 1))
    c.ignore("layer_types")
    own = latent_attention(c)
    rank = c.whole("q_lora_rank")
    mixer = replace(indexed(c, own), q_inputs=2 * rank, gate="element", gate_inputs=2 * rank)
    gate_rank = c.whole("gated_norm_rank")
    gate = Extra(declared=(linear("norm_gate_a", hidden, gate_rank), linear("norm_gate_b", gate_rank, hidden)))
    mixers = [(mixer, indexer(c, rank), gate)] * count
    kinds = ["indexed_attention"] * count
    routed, plain = (*_experts(c, chosen), gate), plain_network(c, Traits(), chosen)
    return stacked(c, mixers, chosen, routed, plain, kinds=kinds)


def dots3_note_text(c: Keys) -> Model:
    """dots3 note's text model: a gate per head; layers with a window have sizes of their own and no indexer."""
    count = c.layers(*LAYERS)
    first = c.whole("first_k_dense_replace", default=1, minimum=0)
    chosen = by_types(c, count, after_first(c, count, first))
    local = local_layers(c, count, lambda index: index >= 2 and index % 4 != 1)
    types = c.texts("layer_types", length=count)
    sparse = "full_attention" not in (types or ()) or c.flag("use_dsa", default=True)
    window = c.optional("sliding_window", "sliding_window_size")
    c.ignore("index_topk", "index_n_heads", "index_head_dim", "use_sliding_window", "swa_num_key_value_heads")

    def mixer(index: int) -> tuple[Part, ...]:
        near = local[index]
        own = latent_attention(_near(c) if near and not c.has("per_layer_config") else c.layer(index))
        own = replace(own, gate="head", rope_key_norm=True, window=window if near else None)
        if near or not sparse:
            return (own,)
        return (indexed(c, own), indexer(c, own.q_lora_rank or own.hidden_size))

    routed = routed_experts(c, chosen)
    one = c.whole("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size")
    if routed:
        routed = replace(routed, shared_intermediate_size=shared_width(c, one))
    kinds = ["sliding_attention" if near else "indexed_attention" if sparse else "full_attention" for near in local]
    mixers, plain = [mixer(index) for index in range(count)], plain_network(c, Traits(), chosen)
    return stacked(c, mixers, chosen, (routed,) if routed else (), plain, kinds=kinds)


_NEAR = {"num_attention_heads": 64, "q_lora_rank": 1024, "kv_lora_rank": 1024, "head_dim": 256, "qk_nope_head_dim": 192,
         "v_head_dim": 128}  # fmt: skip
"""Sizes of dots3's layers with a window where its configuration gives none (`Dots3NoteTextConfig`)."""


def _near(c: Keys) -> Keys:
    """The keys of a layer with a window: those with `swa_` in front."""
    sizes = {name: c.whole(f"swa_{name}", default=size) for name, size in _NEAR.items()}
    rope = c.whole("swa_qk_rope_head_dim", default=sizes["head_dim"] - sizes["qk_nope_head_dim"])
    return with_keys(c, **sizes, qk_rope_head_dim=rope)


def mistral_large4_text(c: Keys) -> Model:
    """Mistral Large 4's text model: layers without positions, indexers and latents that later layers reuse."""
    count, hidden = c.layers(*LAYERS), c.whole(*HIDDEN)
    chosen = by_types(c, count, after_first(c, count, 1))
    every = c.whole("no_rope_layer_interval", default=4)
    rotary = c.wholes("no_rope_layers", length=count) or [(index + 1) % every for index in range(count)]
    sources = c.wholes("kv_source_layers", length=count) or list(range(count))
    full = indexed_layers(c, count)
    c.ignore("layer_types")
    own = indexed(c, latent_attention(c, compressed=False))
    still = replace(own, qk_nope_head_dim=own.qk_nope_head_dim + own.qk_rope_head_dim, qk_rope_head_dim=0)
    extra = _scaled(own.num_attention_heads, "softmax")
    scorer = indexer(c, hidden)
    beside = (scorer, _scaled(scorer.heads, "index_softmax"), Norm(size=hidden, bias=True))
    mixers = [
        (replace(own if rotary[index] else still, shares_kv=sources[index] != index), extra,
         *(beside if full[index] else ()))
        for index in range(count)
    ]  # fmt: skip
    kinds = ["indexed_attention"] * count
    return stacked(c, mixers, chosen, _experts(c, chosen), plain_network(c, Traits(), chosen), kinds=kinds)


def _scaled(heads: int, name: str) -> Extra:
    """A scale and a shift per head of the logarithm of the position."""
    names = (f"{name}_scale", f"{name}_bias")
    return Extra(declared=tuple(vector(each, heads, split="column", units=heads) for each in names))


# several residual streams


def hyper_connections(hidden: int, streams: int, outputs: int, scales: int) -> ResidualStreams:
    """Hyper-connections of one block: `outputs` mixing weights, projected from all streams, and `scales` of them."""
    declared = (
        Weight(name="streams_mix", inputs=streams * hidden, outputs=outputs, role="vector"),
        vector("streams_base", outputs), vector("streams_scale", scales),
    )  # fmt: skip
    return ResidualStreams(hidden_size=hidden, streams=streams, declared=declared)


def hy_v4(c: Keys) -> Model:
    """Hunyuan 4: MLA with sinks, a gate and an indexer that four layers share, between hyper-connections."""
    count, hidden, streams = c.layers(*LAYERS), c.whole(*HIDDEN), c.whole("hc_mult")
    chosen = by_types(c, count, [index > 0 for index in range(count)])
    c.ignore("layer_types")
    mixer = replace(indexed(c, latent_attention(c)), gate="element", sinks=True)
    own = indexer(c, c.whole("q_lora_rank"))
    full = indexed_layers(c, count, lambda index: index == 0 or (index - 1) % 4 == 0)
    mix = hyper_connections(hidden, streams, 2 * streams, 2)
    routed, plain = _experts(c, chosen), plain_network(c, Traits(), chosen)
    norms = Norm(size=hidden, count=2)

    def layer(index: int) -> Layer:
        channel = routed if chosen[index] else (plain,) if plain else ()
        parts = (norms, mix, mixer, *((own,) if full[index] else ()), mix, *channel)
        return Layer(kind="indexed_attention" + (" + experts" if chosen[index] else ""), parts=parts)

    return decoder(c, Traits(), layer, after=(hyper_connections(hidden, streams, streams, 1),))


_RATES = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def deepseek_v4(c: Keys) -> Model:
    """DeepSeek V4: compressed attention between hyper-connections, experts in all layers.

    The tables of the layers that choose experts by token are buffers and not counted.
    """
    c.ignore("qk_rope_head_dim")  # a share of head_dim, which is given whole
    count, hidden, streams = c.layers(*LAYERS), c.whole(*HIDDEN), c.whole("hc_mult", default=4)
    types = _compression(c, count)
    near = CompressedAttention(
        hidden_size=hidden, num_attention_heads=c.whole(*HEADS), head_dim=c.whole("head_dim"),
        q_lora_rank=c.whole("q_lora_rank"), o_groups=c.whole("o_groups"), o_lora_rank=c.whole("o_lora_rank"),
        window=c.whole("sliding_window", default=128),
    )  # fmt: skip
    c.divided(near.num_attention_heads * near.head_dim, near.o_groups, ("num_attention_heads * head_dim", "o_groups"))
    rates = c.section("compress_rates")
    sparse, heavy = (
        rates.whole(kind, default=rate) if rates else c.whole(name, default=rate)
        for kind, name, rate in (("compressed_sparse_attention", "compress_rate_csa", 4),
                                 ("heavily_compressed_attention", "compress_rate_hca", 128))
    )  # fmt: skip
    mixers = {
        "sliding_attention": near,
        "heavily_compressed_attention": replace(near, rate=heavy),
        "compressed_sparse_attention": replace(near, rate=sparse, overlap=True, index_heads=c.whole("index_n_heads"),
                                               index_head_dim=c.whole("index_head_dim"),
                                               selected=c.optional("index_topk")),
    }  # fmt: skip
    c.ignore("mlp_layer_types", "num_hash_layers", "num_key_value_heads")
    routed = _experts(c, [True])
    mix = hyper_connections(hidden, streams, (2 + streams) * streams, 3)
    norms = Norm(size=hidden, count=2)

    def layer(index: int) -> Layer:
        return Layer(kind=f"{types[index]} + experts", parts=(norms, mix, mixers[types[index]], mix, *routed))

    return decoder(c, Traits(), layer, after=(hyper_connections(hidden, streams, streams, 1),))


def _compression(c: Keys, count: int) -> list[str]:
    """The attention of each layer: `layer_types`, or its compression rate, or heavy and sparse by turns."""
    types, rates = c.texts("layer_types"), c.wholes("compress_ratios")
    if types is None and rates is not None:
        types = [_RATES.get(rate, str(rate)) for rate in rates]
    if types is None:
        types = [_RATES[128 if index < 2 or index % 2 == 0 else 4] for index in range(count)]
    if len(types) < count or not set(types[:count]) <= set(_RATES.values()):
        raise c.wrong("layer_types", f"one of {', '.join(_RATES.values())} for each of {count} layers", types)
    return types[:count]
