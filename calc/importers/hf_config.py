"""Hugging Face `config.json` -> Model, offline, for any vintage and family."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from calc.architecture.model import Model, Stack
from calc.documents import Document, is_file, is_folder, load_json, read_text
from calc.errors import FileError, shown
from calc.importers import families
from calc.importers.defaults import defaults_of
from calc.importers.harmless import is_harmless
from calc.importers.keys import MAX_LAYERS, Keys
from calc.importers.quantization import stored_format

SECTIONS = ("text_config", "llm_config", "language_config", "thinker_config", "text_model_config",
            "language_model_config", "vlm_config")  # fmt: skip
"""Where multimodal configurations keep the language model's, outermost first where nested."""
TOWERS = ("vision_config", "vision_tower_config", "audio_config", "encoder_config", "audio_encoder_config",
          "qformer_config", "perceiver_config", "vq_config", "sound_config", "img_processor", "audio_processor",
          "mm_vision_tower")  # fmt: skip
"""Sections of vision and audio towers."""
AHEAD = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers", "num_mtp_modules")
"""How many layers predict further tokens."""
INHERITED = ("tie_word_embeddings", "architectures", "vocab_size")
"""Keys of the outer configuration that hold for the text model where its section says nothing."""


def load_config(path: str | Path) -> Model:
    """The model of a `config.json` file, or of the folder that holds one."""
    file = Path(path)
    if is_folder(file):
        file = file / "config.json"
        if not is_file(file):
            raise FileError("holds no config.json", str(path))
    folder = file.resolve().parent.name if file.name == "config.json" else ""
    return read_config(load_json(read_text(file), str(file)), folder or file.stem)


def read_config(document: Document, name: str) -> Model:
    """The model that a configuration describes.

    Raises
    ------
    FileError, BadValueError
        A missing or impossible key, named with its place.
    """
    outer = Keys(document.mapping(), document)
    levels, fallback = _levels(outer)
    keys = levels[-1]
    family = family_of(keys, fallback)
    keys.defaults = defaults_of(family)
    if keys is not outer:
        keys.data = {key: outer.data[key] for key in INHERITED if key in outer.data} | keys.data
        outer.read.update((*INHERITED, "model_type"))
    read = families.reader(family)
    if read is None:
        from calc.importers.families import generic

        read = generic.read
    model = read(keys)
    stored, unquantized = stored_format(outer, keys, model.num_layers)
    towers, image_tokens, encoder_length = _towers(levels)
    _note_ahead(keys, model)
    _note_unread(outer)
    return replace(
        model, name=name, family=family, stacks=(*model.stacks, *towers), weight_format=model.weight_format or stored,
        unquantized=(*model.unquantized, *unquantized), image_tokens=model.image_tokens or image_tokens,
        encoder_length=model.encoder_length or encoder_length,
        notes=(*model.notes, *outer.notes),
    )  # fmt: skip


def _levels(outer: Keys) -> tuple[list[Keys], str]:
    """The configuration, the section in it that describes the language model, and so on inwards, with the family
    that the innermost has by its place."""
    levels, family = [outer], outer.data.get("model_type")
    family = family if isinstance(family, str) else ""
    while family not in families.WHOLE:
        keys = levels[-1]
        name = next((name for name in SECTIONS if isinstance(keys.data.get(name), dict) and keys.data[name]), None)
        inner = keys.section(name) if name else None
        if inner is None:
            break
        usual = defaults_of(family).get(name or "")
        own = inner.data.get("model_type")
        family = own if isinstance(own, str) else usual.get("model_type", family) if isinstance(usual, dict) else family
        levels.append(inner)
    return levels, family if len(levels) > 1 else ""


def family_of(keys: Keys, fallback: str = "") -> str:
    """`model_type`, or what the class in `architectures` is known as, or `fallback`.

    A type that nothing knows counts as the family of its class where that is known: derived checkpoints rename one.
    """
    given = keys.raw("model_type")
    if given is not None and (not isinstance(given, str) or not given):
        raise keys.wrong("model_type", "a family's name", given)
    if given and families.reader_module(given):
        return str(given)
    classes = keys.raw("architectures")
    names = [each for each in classes if isinstance(each, str)] if isinstance(classes, list) else []
    for each in names:
        found = _family_of_class(each)
        if found:
            if given:
                keys.note(f"family {shown(given)} is not known; read as {found}, that of its class {each[:80]}")
            return found
    if given or fallback:
        return str(given or fallback)
    if not names:
        raise FileError("needs model_type, the family (llama, qwen3, deepseek_v3, ...), or architectures", keys.place())
    return names[0][:80]


def _family_of_class(name: str) -> str:
    """`Qwen2MoeForCausalLM` -> qwen2_moe, where that is known; else nothing."""
    stem = re.sub(r"(For[A-Z][A-Za-z]*|LMHeadModel|WithLMHead|Model)$", "", name[:80])
    plain = re.sub(r"[^a-z0-9]", "", stem.lower())
    if not plain:
        return ""
    known = {re.sub(r"[^a-z0-9]", "", each.lower()): each for each in families.known()}
    return known.get(plain) or known.get(f"{plain}text") or ""


def _towers(levels: list[Keys]) -> tuple[list[Stack], int, int | None]:
    """Vision and audio towers of the configuration and its sections, the context that one image takes, and the
    entries of one image that cross attention keeps."""
    around = [level for level in levels if level is not levels[-1] or any(level.data.get(name) for name in TOWERS)]
    if not around:
        return [], 0, None
    from calc.importers.families import image_tokens, towers

    found = [stack for level in around for stack in towers.read(level)]
    kept = next((length for level in around if (length := image_tokens.encoder_length(level))), None)
    return found, max(image_tokens.image_tokens(level) for level in around), kept


def _note_ahead(keys: Keys, model: Model) -> None:
    """Layers that predict further tokens are in many checkpoints, and few programs load them."""
    ahead = next((keys.data[name] for name in AHEAD if isinstance(keys.data.get(name), int)), 0)
    if 0 < ahead < MAX_LAYERS and model.stack("mtp") is None:
        keys.note(f"{ahead} layer{'s' * (ahead > 1)} for multi-token prediction not counted")


def _note_unread(outer: Keys) -> None:
    """A note that names the keys that nothing read and that may change the arithmetic."""
    names = sorted(name for name in outer.unread() if not is_harmless(name))
    if names:
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        outer.note(f"not understood: {', '.join(each[:60] for each in names[:12])}{more}; the counts may be off")
