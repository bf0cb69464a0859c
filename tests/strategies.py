"""Models, devices and scenarios that tests share: fixed ones, and Hypothesis strategies over them.

Models are built from parts, not imported, so that what is tested here doesn't hang on a reader.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from calc import scenario_file
from calc.architecture.attention import Attention
from calc.architecture.embedding import Embedding, Head
from calc.architecture.experts import Experts
from calc.architecture.feed_forward import FeedForward
from calc.architecture.latent_attention import LatentAttention
from calc.architecture.model import Layer, Model, Stack, run_lengths
from calc.architecture.norm import Norm
from calc.architecture.recurrent import Mamba
from calc.documents import Document
from calc.scenario import Scenario
from calc.specs.hardware import Cluster, Hardware
from calc.specs.plan import Parallel
from calc.specs.software import ASSUMED, Assumed, Software
from calc.specs.workload import Inference


def exactly(value: float) -> Assumed:
    """A quantity without a range."""
    return Assumed(value=value, low=value, high=value, source="test")


NOTHING = exactly(0)


def software(**values: Any) -> Software:
    """An engine that adds nothing of its own, but for what is given."""
    plain: dict[str, Any] = {"name": "plain", **dict.fromkeys(ASSUMED, NOTHING), "expert_offload": True,
                             "logits_bytes": exactly(4),
                             "residual_copies": exactly(2)}  # fmt: skip
    return Software(**(plain | values))


def device(memory: float = 80 * 2**30, **values: Any) -> Hardware:
    """A device with that much memory."""
    plain: dict[str, Any] = {"name": "device", "peak": {"bf16": 1e15, "fp16": 1e15}, "usable": memory,
                             "capacity": memory, "bandwidth": 3e12}  # fmt: skip
    return Hardware(**(plain | values))


def node(**values: Any) -> Cluster:
    return Cluster(**({"name": "node", "devices_per_node": 8, "host_memory": 2e12} | values))


def scenario(model: Model, memory: float = 80 * 2**30, **values: Any) -> Scenario:
    """An inference scenario; keys of `Inference` and `Parallel` may be given beside its own."""
    inference = {key: values.pop(key) for key in list(values) if key in Inference.__dataclass_fields__}
    parallel = {key: values.pop(key) for key in list(values) if key in Parallel.__dataclass_fields__}
    plain: dict[str, Any] = {
        "name": "test", "task": "infer", "model": model, "hardware": device(memory), "cluster": node(), "devices": None,
        "software": software(), "inference": Inference(**inference), "parallel": Parallel(**parallel),
    }  # fmt: skip
    return Scenario(**(plain | values))


def decoder(layers: list[Layer], hidden: int, vocab: int, *, tied: bool = False, positions: int | None = 8192,
            family: str = "test") -> Model:  # fmt: skip
    """A decoder-only model of some layers."""
    stack = Stack(name="decoder", before=(Embedding(vocab_size=vocab, hidden_size=hidden),), runs=run_lengths(layers),
                  after=(Norm(size=hidden), Head(vocab_size=vocab, hidden_size=hidden, tied=tied)))  # fmt: skip
    return Model(name=family, family=family, hidden_size=hidden, vocab_size=vocab, stacks=(stack,), tied=tied,
                 max_positions=positions)  # fmt: skip


def dense_layer(hidden: int, heads: int, kv_heads: int, head_dim: int, inner: int, window: int | None = None,
                kind: str = "full_attention") -> Layer:  # fmt: skip
    attention = Attention(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads,
                          head_dim=head_dim, window=window)  # fmt: skip
    return Layer(kind=kind, parts=(Norm(size=hidden, count=2), attention,
                                   FeedForward(hidden_size=hidden, intermediate_size=inner)))  # fmt: skip


def dense(layers: int = 32, hidden: int = 4096, heads: int = 32, kv_heads: int = 8, inner: int = 14336,
          vocab: int = 128256, *, tied: bool = False, window: int | None = None) -> Model:  # fmt: skip
    """Llama-3-8B where nothing is given: 8,030,261,248 parameters."""
    layer = dense_layer(hidden, heads, kv_heads, hidden // heads, inner, window)
    return decoder([layer] * layers, hidden, vocab, tied=tied, family="dense")


def mixture(layers: int = 32, hidden: int = 4096, experts: int = 8, used: int = 2, inner: int = 14336,
            vocab: int = 32000) -> Model:  # fmt: skip
    """Mixtral-8x7B where nothing is given: 46,702,792,704 parameters, 12,879,925,248 of them active."""
    attention = Attention(hidden_size=hidden, num_attention_heads=32, num_key_value_heads=8, head_dim=hidden // 32)
    channels = Experts(hidden_size=hidden, num_experts=experts, num_experts_per_tok=used, moe_intermediate_size=inner)
    layer = Layer(kind="moe", parts=(Norm(size=hidden, count=2), attention, channels))
    return decoder([layer] * layers, hidden, vocab, family="mixture")


def latent(layers: int = 61, hidden: int = 7168, heads: int = 128) -> Model:
    """DeepSeek-V3's attention with a plain feed-forward network: 70,272 bytes of cache per token in 16 bits."""
    attention = LatentAttention(hidden_size=hidden, num_attention_heads=heads, kv_lora_rank=512, qk_nope_head_dim=128,
                                qk_rope_head_dim=64, v_head_dim=128, q_lora_rank=1536)  # fmt: skip
    layer = Layer(kind="latent", parts=(Norm(size=hidden, count=2), attention,
                                        FeedForward(hidden_size=hidden, intermediate_size=2048)))  # fmt: skip
    return decoder([layer] * layers, hidden, 129280, family="latent")


def hybrid(layers: int = 32, every: int = 8, window: int | None = None) -> Model:
    """Recurrent layers with one attention layer among each `every`."""
    hidden = 4096
    mixer = Mamba(hidden_size=hidden, intermediate_size=8192, state_size=16, conv_kernel=4, time_step_rank=256)
    channels = FeedForward(hidden_size=hidden, intermediate_size=14336)
    recurrent = Layer(kind="mamba", parts=(Norm(size=hidden, count=2), mixer, channels))
    full = dense_layer(hidden, 32, 8, 128, 14336, window)
    return decoder([full if index % every == every - 1 else recurrent for index in range(layers)], hidden, 65536,
                   family="hybrid")  # fmt: skip


def interleaved(layers: int = 48, window: int = 1024, every: int = 6) -> Model:
    """Sliding windows with one global layer among each `every`."""
    hidden = 3840
    local = dense_layer(hidden, 16, 8, 256, 15360, window, "sliding_attention")
    full = dense_layer(hidden, 16, 8, 256, 15360)
    return decoder([full if index % every == every - 1 else local for index in range(layers)], hidden, 262208,
                   tied=True,
                   family="interleaved")  # fmt: skip


def encoder_decoder(layers: int = 12) -> Model:
    """Two stacks; the decoder also keeps keys and values of the encoder's output."""
    hidden, vocab = 1024, 32128
    encoder_part = Attention(hidden_size=hidden, num_attention_heads=16, num_key_value_heads=16, head_dim=64,
                             causal=False)  # fmt: skip
    own, cross = (Attention(hidden_size=hidden, num_attention_heads=16, num_key_value_heads=16, head_dim=64, cross=flag)
                  for flag in (False, True))  # fmt: skip
    channels = FeedForward(hidden_size=hidden, intermediate_size=2816)
    below = Layer(kind="encoder", parts=(Norm(size=hidden, count=2), encoder_part, channels))
    above = Layer(kind="decoder", parts=(Norm(size=hidden, count=3), own, cross, channels))
    table = (Embedding(vocab_size=vocab, hidden_size=hidden),)
    stacks = (Stack(name="encoder", before=table, runs=run_lengths([below] * layers), after=(Norm(size=hidden),)),
              Stack(name="decoder", runs=run_lengths([above] * layers),
                    after=(Norm(size=hidden), Head(vocab_size=vocab, hidden_size=hidden, tied=True))))  # fmt: skip
    return Model(name="encoder_decoder", family="encoder_decoder", hidden_size=hidden, vocab_size=vocab, stacks=stacks,
                 tied=True)  # fmt: skip


MODELS = {"dense": dense(), "mixture": mixture(), "latent": latent(), "hybrid": hybrid(), "interleaved": interleaved(),
          "encoder_decoder": encoder_decoder(), "windowed": dense(layers=16, window=4096),
          "tied": dense(tied=True)}  # fmt: skip
"""One model of each kind that memory depends on."""

SMALL_CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8,
    "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 8192,
    "tie_word_embeddings": False, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16",
}  # fmt: skip
"""A configuration that a scenario may hold in place of a model's name."""

SMALL_DEVICE: dict[str, Any] = {
    "name": "card", "memory": {"capacity": "24 GB", "usable": "24564 MiB", "bandwidth": "1008 GB/s", "type": "GDDR6X"},
    "peak": {"fp32": "82.6 TFLOP/s", "bf16": "165.2 TFLOP/s", "fp16": "165.2 TFLOP/s", "fp8": "330.3 TFLOP/s"},
    "link": {"type": "NVLink", "bandwidth": "50 GB/s"}, "host_link": {"type": "PCIe 4.0 x16", "bandwidth": "31.5 GB/s"},
    "power": "450 W", "price": {"usd_per_hour": {"low": 0.3, "high": 0.6}, "date": "2026-03", "source": "a shop"},
    "slices": {"half": {"share": "1/2", "memory": "12 GiB"}},
}  # fmt: skip

FULL: dict[str, Any] = {
    "schema": 1, "name": "every key", "task": "infer", "model": SMALL_CONFIG, "hardware": SMALL_DEVICE,
    "cluster": {"devices_per_node": 4, "node_link": {"type": "NVLink", "bandwidth": "50 GB/s", "topology": "mesh"},
                "nic_per_device": "100 Gb/s", "host_memory": "512 GB", "host_memory_bandwidth": "200 GB/s",
                "host_cores": 64, "nvme": {"capacity": "4 TB", "read": "7 GB/s", "write": "5 GB/s"}},
    "devices": 4, "software": "generic", "reserved": "1 GiB", "slice": None, "text_only": False,
    "training": {
        "sequence_length": "8k", "global_batch_size": 512, "micro_batch_size": 1, "tokens": "15T", "precision": "bf16",
        "recipe": "mixed", "kernels": "fused", "loss": "full", "optimizer": "adamw", "recompute": ["core_attn", "mlp"],
        "recompute_layers": 2, "attention": "flash", "dropout": 0.1,
        "adapter": {"kind": "lora", "rank": 16, "targets": ["q", "k", "v", "o"]}, "base_format": "nf4",
        "mean_length": "4k", "loss_chunks": 4, "mtp": False, "capacity_factor": 1.25, "expert_imbalance": 1.2,
    },
    "parallel": {
        "data": 2, "tensor": 2, "sequence": True, "pipeline": 1, "virtual_pipeline": 1, "schedule": "1f1b",
        "context": 1, "expert": 1, "expert_tensor": 2, "sharding": "zero1", "shard_group": 2,
        "offload": ["optimizer", "parameters"], "offload_to": "nvme", "uneven": False, "context_kind": "ring",
        "zeropp": ["hpz"], "node_limit": 4,
    },
    "inference": {
        "weight_format": "bf16", "kv_format": "fp8", "input_length": "2k", "output_length": 512, "batch_size": 4,
        "max_context": "8k", "memory_utilization": "90%", "gpu_layers": 8, "cpu_moe_layers": 0, "kv_budget": "50%",
        "speculative": {"draft": "llama-3.2-1b", "length": 4, "acceptance": 0.8},
        "disaggregated": {"prefill_devices": 2, "decode_devices": 2},
    },
    "cost": {"price": 2.5, "pue": 1.2, "power_share": "85%", "carbon_intensity": 0.4},
    "reliability": {"mtbf": "30 d", "checkpoint_interval": "1 h", "storage_bandwidth": "10 GB/s", "asynchronous": True,
                    "restart": "10 min"},
    "rl": {"rollouts": 8},
    "sweep": {"inference.batch_size": [1, 2, 4]},
}  # fmt: skip
"""A scenario with every key of the contract, all legal."""


def document(data: Any, name: str = "scenario.yaml") -> Document:
    return Document(data, name)


def loaded(data: Any) -> Scenario:
    return scenario_file.scenario_from(document(data))


def changed(found: Scenario, change: dict[str, Any]) -> Scenario:
    """A scenario after a suggestion's change, its keys by their paths."""
    for path, value in change.items():
        section, _, key = path.rpartition(".")
        if section:
            found = replace(found, **{section: replace(getattr(found, section), **{key: value})})
        else:
            found = replace(found, **{key: value})
    return found


# strategies

lengths = st.integers(1, 2**20)
degrees = st.sampled_from([1, 2, 4, 8])
models = st.sampled_from(sorted(MODELS)).map(MODELS.__getitem__)
formats = st.sampled_from(["bf16", "fp8", "int8", "nf4", "gptq-4bit-g128", "nvfp4", "fp32", "hqq-4bit-g64", "q4_k_m",
                           "q8_0", "q2_k"])  # fmt: skip
kv_formats = st.sampled_from(["bf16", "fp8", "int8", "q8_0", "q4_0", "kivi-2bit", "fp32"])

words = st.sampled_from(["", "bf16", "8k", "-1", "1e3", "nan", "inf", "1e999", "80 GiB", "50%", "none", "true", "../x",
                         "h100", "llama", "\u0000", "٣", "١٢", "x" * 5000, "8:10", "NO", "1/0", "1/3",
                         "$5"])  # fmt: skip
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-3, 70000), st.just(10**400), st.floats(),
                    st.text(max_size=12), words)  # fmt: skip
values = st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.one_of(words, st.text(max_size=8)), inner, max_size=3)),
    max_leaves=6)  # fmt: skip
"""Anything that a YAML or JSON document may hold."""


def paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a document, the root left out."""
    found = [path] if path else []
    if isinstance(data, dict):
        for key, inner in data.items():
            found += paths(inner, (*path, key))
    return found


PATHS = paths(FULL)


def mutated(draw: st.DrawFn, data: dict[str, Any], places: list[tuple[Any, ...]], most: int = 3) -> dict[str, Any]:
    """One to some keys replaced, removed, renamed or added at random."""
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places))
        holder: Any = data
        for key in path[:-1]:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if not isinstance(holder, dict):
            continue
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "add"]))
        if action == "replace":
            holder[path[-1]] = draw(values)
        elif action == "add":
            holder[draw(words)] = draw(values)
        elif path[-1] in holder:
            value = holder.pop(path[-1])
            if action == "rename":
                holder[draw(st.one_of(words, st.just(f"{path[-1]}s")))] = value
    return data


@st.composite
def wrong_scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """The full scenario with one to three keys replaced, removed, renamed or added at random."""
    return mutated(draw, copied(FULL), PATHS)


def copied(data: Any) -> Any:
    """A deep copy of plain data."""
    if isinstance(data, dict):
        return {key: copied(value) for key, value in data.items()}
    return [copied(value) for value in data] if isinstance(data, list) else data
