"""How long weight files' headers take to read, and how much memory: `python benchmarks/readers.py`.

The files are as large as real ones claim to be (a 685 GB mixture of experts) but sparse: only headers are written.
Each reading is made in a fresh process; the best of three counts.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from weight_files import safetensors_bytes, safetensors_header, write_gguf  # noqa: E402

LAYERS, DENSE, EXPERTS, HIDDEN, INNER, SHARDS = 62, 3, 256, 7168, 2048, 163
"""DeepSeek-V3's checkpoint: the prediction layer counts as the 62nd."""
LIMIT_SECONDS = 1.0
"""CPU time that a reading may take: a busy machine takes longer by the clock."""

Shapes = dict[str, tuple[str, tuple[int, ...]]]


def deepseek_v3() -> Shapes:
    """Tensors of DeepSeek-V3 as published: FP8 matrices, each with its scales."""
    shapes: Shapes = {"model.embed_tokens.weight": ("BF16", (129280, HIDDEN)), "lm_head.weight": ("BF16", (129280,
                                                                                                           HIDDEN)),
                      "model.norm.weight": ("BF16", (HIDDEN,))}  # fmt: skip

    def matrix(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"] = ("F8_E4M3", (rows, columns))
        shapes[f"{name}.weight_scale_inv"] = ("F32", (-(-rows // 128), -(-columns // 128)))

    def network(place: str, inner: int) -> None:
        for name, rows, columns in (
            ("gate_proj", inner, HIDDEN),
            ("up_proj", inner, HIDDEN),
            ("down_proj", HIDDEN, inner),
        ):
            matrix(f"{place}.{name}", rows, columns)

    for layer in range(LAYERS):
        place = f"model.layers.{layer}"
        for name, rows, columns in (("q_a_proj", 1536, HIDDEN), ("q_b_proj", 24576, 1536), ("kv_a_proj_with_mqa", 576,
                                                                                            HIDDEN),
                                    ("kv_b_proj", 32768, 512), ("o_proj", HIDDEN, 16384)):  # fmt: skip
            matrix(f"{place}.self_attn.{name}", rows, columns)
        for name, size in (("self_attn.q_a_layernorm", 1536), ("self_attn.kv_a_layernorm", 512), ("input_layernorm",
                                                                                                  HIDDEN),
                           ("post_attention_layernorm", HIDDEN)):  # fmt: skip
            shapes[f"{place}.{name}.weight"] = ("BF16", (size,))
        if layer < DENSE:
            network(f"{place}.mlp", 18432)
            continue
        shapes[f"{place}.mlp.gate.weight"] = ("BF16", (EXPERTS, HIDDEN))
        shapes[f"{place}.mlp.gate.e_score_correction_bias"] = ("F32", (EXPERTS,))
        network(f"{place}.mlp.shared_experts", INNER)
        for expert in range(EXPERTS):
            network(f"{place}.mlp.experts.{expert}", INNER)
    last = f"model.layers.{LAYERS - 1}"
    shapes |= {f"{last}.{name}.weight": ("BF16", (HIDDEN,)) for name in ("enorm", "hnorm", "shared_head.norm")}
    shapes[f"{last}.eh_proj.weight"] = ("BF16", (HIDDEN, 2 * HIDDEN))
    return shapes


CONFIG = {
    "model_type": "deepseek_v3", "hidden_size": HIDDEN, "intermediate_size": 18432, "moe_intermediate_size": INNER,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "n_routed_experts": EXPERTS,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": DENSE, "moe_layer_freq": 1,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280,
    "max_position_embeddings": 163840, "tie_word_embeddings": False, "num_nextn_predict_layers": 1,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}  # fmt: skip


def write_shards(folder: Path, shapes: Shapes, count: int) -> int:
    """The shards, the index and the configuration; the bytes of all tensors are returned."""
    names, weight_map, total = list(shapes), {}, 0
    for number in range(count):
        part = {name: shapes[name] for name in names[number * len(names) // count : (number + 1) * len(names) // count]}
        header = safetensors_header(part, {"format": "pt"})
        size = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        file = "model.safetensors" if count == 1 else f"model-{number + 1:05}-of-{count:06}.safetensors"
        start = safetensors_bytes(header)
        with open(folder / file, "wb") as out:
            out.write(start)
            out.truncate(len(start) + size)
        weight_map |= dict.fromkeys(part, file)
        total += size
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return total


def write_vocabulary_heavy(path: Path, vocabulary: int, merges: int) -> None:
    """A GGUF file of DeepSeek-V3's shape in Q4_K with a large tokenizer."""
    shapes: Shapes = {"token_embd.weight": ("Q4_K", (vocabulary, HIDDEN)), "output.weight": ("Q6_K", (vocabulary,
                                                                                                      HIDDEN)),
                      "output_norm.weight": ("F32", (HIDDEN,))}  # fmt: skip
    for layer in range(LAYERS - 1):
        place = f"blk.{layer}."
        matrices = {"attn_q_a": (1536, HIDDEN), "attn_q_b": (24576, 1536), "attn_kv_a_mqa": (576, HIDDEN),
                    "attn_k_b": (128, 512, 128), "attn_v_b": (128, 128, 512), "attn_output": (HIDDEN,
                                                                                              16384)}  # fmt: skip
        vectors = {"attn_q_a_norm": 1536, "attn_kv_a_norm": 512, "attn_norm": HIDDEN, "ffn_norm": HIDDEN}
        if layer < DENSE:
            matrices |= {"ffn_gate": (18432, HIDDEN), "ffn_up": (18432, HIDDEN), "ffn_down": (HIDDEN, 18432)}
        else:
            inner = {"gate": (INNER, HIDDEN), "up": (INNER, HIDDEN), "down": (HIDDEN, INNER)}
            matrices |= {f"ffn_{name}_exps": (EXPERTS, *shape) for name, shape in inner.items()}
            matrices |= {f"ffn_{name}_shexp": shape for name, shape in inner.items()}
            shapes[f"{place}ffn_gate_inp.weight"] = ("F32", (EXPERTS, HIDDEN))
            shapes[f"{place}exp_probs_b.bias"] = ("F32", (EXPERTS,))
        shapes |= {f"{place}{name}.weight": ("F32", (size,)) for name, size in vectors.items()}
        for name, shape in matrices.items():
            shapes[f"{place}{name}.weight"] = ("Q4_K" if shape[-1] % 256 == 0 else "Q8_0", shape)
    keys = {
        "block_count": 61, "context_length": 163840, "embedding_length": HIDDEN, "feed_forward_length": 18432,
        "attention.head_count": 128, "attention.head_count_kv": 1, "attention.q_lora_rank": 1536,
        "attention.kv_lora_rank": 512, "attention.key_length": 576, "attention.value_length": 512,
        "attention.key_length_mla": 192, "attention.value_length_mla": 128, "rope.dimension_count": 64,
        "leading_dense_block_count": DENSE, "expert_feed_forward_length": INNER, "expert_count": EXPERTS,
        "expert_shared_count": 1, "expert_used_count": 8,
    }  # fmt: skip
    metadata: dict[str, object] = {"general.architecture": "deepseek2", "general.file_type": 15}
    metadata |= {f"deepseek2.{key}": value for key, value in keys.items()}
    metadata |= {"tokenizer.ggml.tokens": [f"token{number}" for number in range(vocabulary)],
                 "tokenizer.ggml.token_type": [1] * vocabulary, "tokenizer.ggml.scores": [0.0] * vocabulary,
                 "tokenizer.ggml.merges": [f"tok en{number}" for number in range(merges)]}  # fmt: skip
    write_gguf(path, metadata, shapes)


def peak_bytes() -> int:
    """Most memory that this process has held; Linux counts a parent's into `ru_maxrss`, so its own file is read."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def read(kind: str, path: str) -> None:
    """Read one model, in this process, and print what it cost as JSON."""
    begun = time.perf_counter()
    if kind == "gguf":
        from calc.importers.gguf import load_gguf as load
    else:
        from calc.importers.safetensors import load_safetensors as load
    imported, used = time.perf_counter(), time.process_time()
    model = load(path)
    cost = {"seconds": time.perf_counter() - imported, "cpu": time.process_time() - used, "imports": imported - begun}
    print(json.dumps(cost | {"peak": peak_bytes(), "bytes": model.stored_bytes, "notes": model.notes}))


def write_all(folder: Path) -> list[tuple[str, str, Path, int | None]]:
    """The files: title, kind, path, and the bytes that must be found."""
    shapes = deepseek_v3()
    cases: list[tuple[str, str, Path, int | None]] = []
    for count in (SHARDS, 1):
        place = folder / f"{count}-shards"
        place.mkdir()
        total = write_shards(place, shapes, count)
        cases.append((f"safetensors, {len(shapes):,} tensors, {count} file(s)", "safetensors", place, total))
    alone = folder / "index-only"
    alone.mkdir()
    for name in ("model.safetensors.index.json", "config.json"):
        (alone / name).write_bytes((folder / f"{SHARDS}-shards" / name).read_bytes())
    cases.append(("safetensors, the index alone", "safetensors", alone, cases[0][3]))
    for vocabulary, merges in ((129280, 127741), (262144, 514906)):
        path = folder / f"{vocabulary}.gguf"
        write_vocabulary_heavy(path, vocabulary, merges)
        cases.append((f"GGUF, {vocabulary:,} tokens, {merges:,} merges", "gguf", path, None))
    return cases


def main() -> int:
    """Print the table; 1 where a reading takes too long or finds the wrong bytes."""
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        print(f"{'':44}{'seconds':>8}{'CPU s':>8}{'imports':>8}{'peak MB':>9}{'weights GB':>12}")
        for title, kind, path, total in write_all(Path(scratch)):
            command = [sys.executable, __file__, kind, str(path)]
            runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
            best = min(map(json.loads, runs), key=lambda run: run["cpu"])
            times = f"{best['seconds']:8.3f}{best['cpu']:8.3f}{best['imports']:8.3f}"
            print(f"{title:44}{times}{best['peak'] / 1e6:9.1f}{best['bytes'] / 1e9:12.1f}")
            failed = failed or best["cpu"] > LIMIT_SECONDS or total not in (None, best["bytes"])
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        read(sys.argv[1], sys.argv[2])
    else:
        sys.exit(main())
