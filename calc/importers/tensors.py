"""What the header of a weight file lists: tensors with their exact bytes, and what follows from names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from calc.architecture.model import Model, Stack, weights_of

MAX_TENSORS = 1_000_000
"""Tensors in one checkpoint; the largest known (a 1 TB mixture of experts with a scale per matrix) has some 200,000."""
MAX_SHARDS = 10_000
"""Files that one checkpoint is split into; the largest known has some 200."""


class Source(Protocol):
    """What headers are read from: a file on disk, or one on the hub."""

    def seek(self, offset: int, /) -> object:
        """Go to an offset from the start."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes from there."""


class Tensor(NamedTuple):
    """One tensor of a file. A named tuple: a large checkpoint has 100,000, and a dataclass costs three times that."""

    name: str
    dtype: str
    """As the format spells it: `BF16`, `F8_E4M3`, ... in safetensors, `Q4_K`, ... in GGUF."""
    shape: tuple[int, ...]
    """Rows first; the last dimension is the contiguous one."""
    bytes: int
    """Stored size, padding between tensors not included."""

    @property
    def elements(self) -> int:
        """Product of the shape."""
        total = 1
        for size in self.shape:
            total *= size
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The weights of one model as stored: one file, or the shards of one."""

    name: str
    """What a person would call it: the file's name without its ending, or the folder's."""
    tensors: tuple[Tensor, ...]
    """Every tensor; empty where only the size is known."""
    total_bytes: int
    """Bytes of all tensors, without headers and padding."""
    weights: tuple[int, ...] = ()
    """What each tensor holds as a model counts parameters: packed ones unpacked, 0 for scales and buffers.
    Empty where a packing isn't understood."""
    notes: tuple[str, ...] = field(default=())
    """What was noticed or assumed in reading it."""

    @property
    def parameters(self) -> int | None:
        """Weights as a model counts them; None where a packing isn't understood, or the shapes are unknown."""
        return sum(self.weights) if self.weights else None

    @property
    def by_dtype(self) -> tuple[tuple[str, int], ...]:
        """Bytes per storage type, most first."""
        sums: dict[str, int] = {}
        for tensor in self.tensors:
            sums[tensor.dtype] = sums.get(tensor.dtype, 0) + tensor.bytes
        return tuple(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def elements_of(stacks: Iterable[Stack]) -> int:
    """Stored elements of some stacks."""
    return sum(weight.elements * layers for stack in stacks for _, weight, layers in weights_of(stack) if weight.stored)


# --- which part of the model a tensor belongs to -----------------------------------------------------------

_LAYER = re.compile(r"(?:^|\.)(?:layers?|blk|blocks?|h)\.(\d{1,5})\.")
_TOWERS = (
    ("mtp", re.compile(r"^(?:model\.)?mtp[._]|\.nextn\.")),
    ("vision", re.compile(r"^(?:v|mm|resampler)\.(?!a\.)|(?:^|\.)(?:visual|vision\w*|image_newline|vit|vpm)\.|"
                          r"multi_modal_projector|mm_projector|(?:^|\.)embed_vision\.")),
    ("audio", re.compile(r"^(?:mm\.)?a\.|(?:^|\.)audio\w*\.|(?:^|\.)embed_audio\.")),
)  # fmt: skip
_ENDS = (
    ("table", re.compile(r"per_layer_token_embd|embed_tokens_per_layer|token_types|token_type_embeddings")),
    ("position", re.compile(r"(?:^|\.)(?:wpe|position_embd|position_embeddings|embed_positions)\.")),
    ("embedding", re.compile(r"(?:^|\.)(?:token_embd|embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|"
                             r"shared|embeddings|word_embedding|embedding)\.")),
    ("head", re.compile(r"(?:^|\.)(?:output|lm_head|embed_out|output_layer)\.")),
)  # fmt: skip
_PARTS = (
    ("shared_experts", re.compile(r"shared_expert|_shexp|shared_mlp|ffn_gate_inp|exp_probs_b|router|mlp\.gate\.|"
                                  r"feed_forward\.gate\.|block_sparse_moe\.gate\.|moe\.gate\.")),
    ("experts", re.compile(r"experts|_exps|block_sparse_moe|_chexps")),
    ("norms", re.compile(r"(?:^|[._])(?:\w*layer_?norm\w*|LayerNorm|ln_?\d*\w*|norm_?\d?|\w*_norm)\.(?:weight|bias)$")),
    ("recurrent",
     re.compile(r"^(?:ssm_|time_mix|channel_mix|shortconv|mamba|linear_attn|conv\.|mixer\.(?:in_proj|out_proj|"
                             r"conv1d|A_log|D|dt|x_proj|norm))")),
    ("attention",
     re.compile(r"attn|attention|self_attention|(?:^|[._])(?:q|k|v|o|qkv|q_a|q_b|kv_a\w*|kv_b)_?(?:proj)?\.|"
                             r"indexer|Wqkv|SelfAttention|EncDecAttention")),
    ("feed_forward", re.compile(r"ffn|mlp|feed_forward|fc1|fc2|DenseReluDense|intermediate|output\.dense|"
                                r"(?:^|\.)(?:up|down|gate)_proj")),
)  # fmt: skip


def layer_index(name: str) -> int | None:
    """The layer that a tensor's name says it is in (`model.layers.7.mlp...`, `blk.7.ffn_up...`)."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


class Grouping:
    """Tells from a tensor's name which group of weights it is in.

    Groups are `embedding`, `head`, `position`, `table`, `other` (final norm and the like), `vision`, `audio`, `mtp`,
    and, for what is in a layer, `STACK.LAYER.PART` such as `decoder.12.attention`; PART is one of attention,
    recurrent, feed_forward, experts (the routed ones), shared_experts (with the router), norms, other.
    """

    def __init__(self, model: Model) -> None:
        self.stacks = tuple(stack.name for stack in model.text_stacks) or ("decoder",)
        self.layers = model.num_layers if len(self.stacks) == 1 else None
        self._parts: dict[tuple[str, str], tuple[str, str]] = {}  # the same few names recur in every layer

    def group(self, name: str) -> str:
        """The group of the tensor of that name."""
        match = _LAYER.search(name)
        if match is None:
            return _first(name, (*_TOWERS, *_ENDS))
        before, rest = name[: match.start(1)], name[match.end() :]
        expert = rest.find("experts.")
        if expert >= 0:
            rest = rest[: expert + 8]
        known = self._parts.get((before, rest))
        if known is None:
            known = self._parts[before, rest] = self._part(before, rest)
        stack, part = known
        layer = match[1]
        if not part:
            return stack
        return "mtp" if self.layers is not None and int(layer) >= self.layers else f"{stack}.{layer}.{part}"

    def _part(self, before: str, rest: str) -> tuple[str, str]:
        """Stack and part of what is in a layer; no part for what is no layer of the text model."""
        tower = "mtp" if rest.startswith("nextn.") else _first(before, _TOWERS)
        if tower != "other":
            return tower, ""
        stack = self.stacks[0] if len(self.stacks) == 1 else "encoder" if "enc" in before else "decoder"
        return stack, _first(rest, _PARTS)


def _first(name: str, table: tuple[tuple[str, re.Pattern[str]], ...]) -> str:
    """The first entry whose pattern is in a name."""
    return next((found for found, pattern in table if pattern.search(name)), "other")


def with_storage(model: Model, checkpoint: Checkpoint, *, weight_format: str | None = None) -> Model:
    """The model with the checkpoint's exact bytes on it, by group, and a note where the counts differ."""
    grouping = Grouping(model)
    groups = [grouping.group(tensor.name) for tensor in checkpoint.tensors]
    sizes: dict[str, int] = {}
    for group, tensor in zip(groups, checkpoint.tensors, strict=True):
        sizes[group] = sizes.get(group, 0) + tensor.bytes
    notes = [*model.notes, *(note for note in checkpoint.notes if note not in model.notes)]
    if checkpoint.weights:
        counts: dict[str, int] = {}
        for group, count in zip(groups, checkpoint.weights, strict=True):
            counts[group] = counts.get(group, 0) + count
        corrections = sum(tensor.elements for tensor in checkpoint.tensors if tensor.name.endswith(CORRECTIONS))
        notes.extend(_count_notes(model, counts, corrections))
    return replace(model, stored_bytes=checkpoint.total_bytes, stored=tuple(pair for pair in sizes.items() if pair[1]),
                   notes=tuple(notes), weight_format=weight_format or model.weight_format)  # fmt: skip


CORRECTIONS = (
    "e_score_correction_bias",
    "e_score_correction.bias",
    "exp_probs_b.bias",
    "expert_bias",
    "moe_statics.bias",
)
"""Ends of names of a router's correction of its scores: a parameter in some families, a buffer in others."""


def _count_notes(model: Model, found: dict[str, int], corrections: int) -> Iterator[str]:
    """What there is to say about the file's weights against those that the architecture declares.

    Towers and prediction layers may be in the file or not, whatever the configuration says: each is compared alone.
    With or without the routers' corrections, the counts agree.
    """
    text = sum(count for group, count in found.items() if group not in SIDE_STACKS)
    declared = elements_of(model.text_stacks)
    if model.tied and found.get("head") and text - found["head"] == declared:
        yield f"the file also stores the tied output table ({found['head']:,} weights), which loaders drop"
        text = declared
    if text != declared and text + corrections != declared:
        share, more = abs(text - declared) / max(declared, 1), "more" if text > declared else "fewer"
        yield (f"the file holds {text:,} weights of the text model, {abs(text - declared):,} ({share:.2%}) {more} than "
               "the architecture read from it; its own bytes are used")  # fmt: skip
    for name in SIDE_STACKS:
        stack, count = model.stack(name), found.get(name, 0)
        declared = elements_of([stack]) if stack else 0
        if count and not declared:
            yield f"the file holds {count:,} weights of {SIDE_STACKS[name]}, counted by their bytes only"
        elif declared and not count and name != "mtp":
            yield f"the file holds no weights of {SIDE_STACKS[name]}, though the architecture has it"
        elif count != declared and count:
            yield f"the file holds {count:,} weights of {SIDE_STACKS[name]}; the architecture has {declared:,}"


SIDE_STACKS = {
    "vision": "the vision tower", "audio": "the audio tower",
    "mtp": "layers past the model's own (multi-token prediction, which common loaders leave out)",
}  # fmt: skip


def size_only(found: Checkpoint, family: str, reason: str, weight_format: str | None = None) -> Model:
    """A model of which only the weights' size is known: it has no stacks, and a note says why."""
    note = f"{reason}: only the size of its weights is known, not what else it needs"
    return Model(name=found.name, family=family, hidden_size=0, vocab_size=0, stacks=(), stored_bytes=found.total_bytes,
                 weight_format=weight_format, notes=(*found.notes, note))  # fmt: skip
