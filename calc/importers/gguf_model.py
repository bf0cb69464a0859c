"""GGUF metadata and tensors -> the configuration that a Hugging Face checkpoint of the same model has -> Model.

No architecture is written twice: what the metadata says is respelled in the keys that `calc.importers.families`
reads, and what it leaves open (tied output, biases, norms, which layer is of which kind) is taken from the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calc.architecture.model import Model
from calc.documents import Document
from calc.errors import BadValueError, CalcError, FileError, UnknownNameError, shown
from calc.importers.keys import MAX_LAYERS
from calc.importers.tensors import Checkpoint, Tensor, size_only, with_storage

COMMON = {
    "context_length": "max_position_embeddings", "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window", "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok", "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts", "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "leading_dense_block_count": "first_k_dense_replace",
}  # fmt: skip
"""Metadata key under the architecture's name -> configuration key, for what most architectures have."""
ABSENT = ("sliding_window", "max_window_layers", "sliding_window_pattern")
"""Configuration keys that are null unless the file says otherwise: no family's default holds for a converted file."""
_HELPERS = re.compile(r"rope_(?:freqs|factors_\w+)\.|attn_rot_embd\.|exp_probs_b|layer_output_scale\.|\.input_scale$")
"""Tensors that a model doesn't count as parameters: rotary tables, a router's correction and other buffers."""


class File:
    """What a GGUF file says of its model: metadata under the architecture's name, and shapes of tensors."""

    def __init__(self, metadata: Mapping[str, Any], tensors: Sequence[Tensor], name: str) -> None:
        self.name = name
        self.metadata = metadata
        self.shapes = {tensor.name: tensor.shape for tensor in tensors}
        arch = metadata.get("general.architecture")
        if not isinstance(arch, str) or not arch:
            raise FileError(f"must name the architecture, got {shown(arch)}", f"{name}: general.architecture")
        self.arch = arch
        self._kinds: dict[str, list[int]] = {}  # tensor name within a layer -> the layers that have it
        for tensor in tensors:
            if tensor.name.startswith("blk."):
                layer, _, rest = tensor.name[4:].partition(".")
                if layer.isdecimal() and len(layer) < 6:
                    self._kinds.setdefault(rest, []).append(int(layer))

    def raw(self, key: str) -> Any:
        """A metadata value under the architecture's name."""
        return self.metadata.get(f"{self.arch}.{key}")

    def number(self, key: str) -> int | None:
        """A size; of one per layer the largest; None where it is absent or zero (which stands for none)."""
        value = self.raw(key)
        if isinstance(value, list):
            value = max((entry for entry in value if type(entry) is int), default=0)
        if value is None:
            return None
        if type(value) is not int or value < 0:
            raise BadValueError(f"expected a size, got {shown(value)}", f"{self.name}: {self.arch}.{key}")
        return value or None

    def size(self, key: str) -> int:
        """A size that the architecture needs."""
        value = self.number(key)
        if value is None:
            raise FileError("needs this key, or a value above 0", f"{self.name}: {self.arch}.{key}")
        return value

    def each(self, key: str) -> list[int]:
        """A size per layer, whether the file gives one for all or a list."""
        value = self.raw(key)
        values = value[: self.layers] if isinstance(value, list) else [value or 0] * self.layers
        if len(values) < self.layers or not all(type(entry) is int and entry >= 0 for entry in values):
            rule = f"expected a size or one per layer, got {shown(value)}"
            raise BadValueError(rule, f"{self.name}: {self.arch}.{key}")
        return values

    @property
    def layers(self) -> int:
        """Layers of the model itself; those that predict further tokens come after them."""
        count, extra = self.size("block_count"), self.number("nextn_predict_layers") or 0
        if not extra < count <= MAX_LAYERS:
            rule = f"must be from 1 to {MAX_LAYERS:,}, more than the {extra:,} prediction layers, got {count:,}"
            raise BadValueError(rule, f"{self.name}: {self.arch}.block_count")
        return count - extra

    def where(self, tensor: str) -> list[int]:
        """The layers (of the model itself) that have a tensor of that name."""
        layers = self.layers
        return [layer for layer in self._kinds.get(tensor, ()) if layer < layers]

    def has(self, *names: str) -> bool:
        """Whether any layer, or the file itself, has a tensor of one of these names."""
        return any(name in self._kinds or name in self.shapes for name in names)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of a tensor: of the file, or of the first layer that has it; () where there is none."""
        if tensor in self._kinds:
            tensor = f"blk.{self._kinds[tensor][0]}.{tensor}"
        return self.shapes.get(tensor, ())

    def rows(self, tensor: str) -> int:
        """Rows (outputs) of a matrix; 0 where there is none."""
        shape = self.shape(tensor)
        return shape[-2] if len(shape) > 1 else 0

    @property
    def layer_types(self) -> list[str] | None:
        """Windows per layer, where the file gives them."""
        value = self.raw("attention.sliding_window_pattern")
        if isinstance(value, list) and len(value) >= self.layers:
            return ["sliding_attention" if slides else "full_attention" for slides in value[: self.layers]]
        if type(value) is int and value > 0:
            words = ["sliding_attention"] * (min(value, MAX_LAYERS) - 1) + ["full_attention"]
            return [words[index % len(words)] for index in range(self.layers)]
        return None

    def common(self) -> dict[str, Any]:
        """The configuration keys that follow from metadata and tensors whatever the architecture."""
        config: dict[str, Any] = dict.fromkeys(ABSENT)
        for key, wanted in COMMON.items():
            value = self.number(key)
            if value is not None:
                config[wanted] = value
        table = self.shape("token_embd.weight")
        if len(table) == 2:
            config["vocab_size"] = table[0]
        elif (vocabulary := self.number("vocab_size")) is not None:
            config["vocab_size"] = vocabulary
        config["num_hidden_layers"] = self.layers
        config["tie_word_embeddings"] = "output.weight" not in self.shapes
        if self.layer_types and config["sliding_window"]:
            config["layer_types"] = self.layer_types
        return config


def model_of(metadata: Mapping[str, Any], tensors: Sequence[Tensor], place: str) -> Model:
    """The model that metadata and tensors describe, with the tensors' exact bytes.

    Parameters
    ----------
    metadata, tensors : mapping, sequence
        As `calc.importers.gguf` reads them.
    place : str
        The file, for messages.
    """
    kind = metadata.get("general.type", "model")
    name = re.sub(r"-\d{5}-of-\d{5}$", "", Path(place).stem)
    found = checkpoint_of(tensors, name)
    if kind in ("adapter", "imatrix", "vocab"):
        raise FileError(f"holds no model but {'an' if kind[0] in 'ai' else 'a'} {kind}", place)
    file = File(metadata, tensors, place)
    stored_as = _format(metadata, tensors)
    from calc.importers.gguf_architectures import configuration
    from calc.importers.hf_config import read_config

    config = configuration(file)
    known = config is not None
    try:
        config = config or {"model_type": file.arch, **file.common()}
        model = read_config(Document(config, f"{place} (as a configuration)"), name)
    except CalcError:
        if known:
            raise
        return size_only(found, file.arch, f"the architecture {shown(file.arch)} isn't known", stored_as)
    return with_storage(model, found, weight_format=stored_as)


def checkpoint_of(tensors: Sequence[Tensor], name: str) -> Checkpoint:
    """The tensors as a checkpoint, each with the weights that it stands for."""
    types = {tensor.name: tensor.dtype for tensor in tensors}
    weights = tuple(0 if _helps(tensor.name, types) else tensor.elements for tensor in tensors)
    return Checkpoint(name=name, tensors=tuple(tensors), total_bytes=sum(tensor.bytes for tensor in tensors),
                      weights=weights)  # fmt: skip


def _helps(name: str, types: Mapping[str, str]) -> bool:
    """Whether a tensor is no parameter: a helper, or the scale of a tensor whose type keeps one apart."""
    if name.endswith(".scale"):
        return types.get(f"{name[:-6]}.weight", "") in ("NVFP4", "TQ1_0", "TQ2_0", "I2_S")
    return _HELPERS.search(name) is not None


def _format(metadata: Mapping[str, Any], tensors: Sequence[Tensor]) -> str | None:
    """The name of the file's format: what it says it is, else the type that takes most bytes."""
    from calc.specs.formats import file_type, format_named

    number = metadata.get("general.file_type")
    named = file_type(number & ~1024) if type(number) is int and number >= 0 else None
    if named is not None or not tensors:
        return named
    sums: dict[str, int] = {}
    for tensor in tensors:
        sums[tensor.dtype] = sums.get(tensor.dtype, 0) + tensor.bytes
    try:
        return format_named(max(sums, key=lambda dtype: sums[dtype]).lower()).name
    except UnknownNameError:
        return None
