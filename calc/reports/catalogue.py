"""Catalogue records: lists of them, and one in full."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calc import load, scenario_file
from calc.architecture.model import Model, Stack
from calc.documents import is_folder, load_file
from calc.errors import CalcError, UnknownNameError, shown, unknown
from calc.formulas.gguf_mix import usual_bits
from calc.formulas.kv_cache import index_bytes_per_token, kv_bytes_per_token, state_bytes_per_sequence
from calc.formulas.parameters import parameters
from calc.specs.formats import format_named, format_names, kv_format_named, kv_format_names
from calc.specs.hardware import Cluster, Hardware
from calc.specs.software import Software
from calc.units import TB, format_bytes, format_bytes_fitting, format_count, format_length

Row = dict[str, Any]


def rows(kind: str, filter_: str, units: str, *, plain: bool) -> list[Row]:
    """One flat record per catalogue entry; `plain` gives base units, otherwise numbers are written for people."""
    listed = {"models": _models, "hardware": _hardware, "clusters": _clusters, "formats": _formats,
              "software": _software}[kind]  # fmt: skip
    return listed(filter_, units, plain)


def _models(filter_: str, units: str, plain: bool) -> list[Row]:
    found = []
    for name in load.names("models"):
        if filter_ in name:
            model = load.model(name)
            counts = parameters(model)
            kv = kv_bytes_per_token(model, kv_format_named("bf16"))
            found.append({
                "name": name,
                "parameters": counts.total if plain else format_count(counts.total),
                "active": counts.active if plain else format_count(counts.active),
                "layers": model.num_layers,
                "context": model.max_positions if plain else format_length(model.max_positions or 0) or "-",
                "kv_bytes_per_token": kv if plain else format_bytes_fitting(kv, units), "family": model.family,
            })  # fmt: skip
    return found


def _hardware(filter_: str, units: str, plain: bool) -> list[Row]:
    found = []
    for name in load.names("hardware"):
        if filter_ in name:
            device = load.hardware(name)
            peak, price = device.peak.get(device.half_format), device.usd_per_hour
            usable = device.total_bytes or 0
            found.append({
                "name": name,
                "memory": usable if plain else format_bytes(usable, units, 1),
                "bandwidth": device.bandwidth if plain else _scaled(device.bandwidth),
                "peak_16_bit": peak if plain else _scaled(peak),
                "power": device.power if plain else f"{device.power:,.0f}" if device.power else "-",
                "usd_per_hour": (price and price[0]) if plain else f"{price[0]:,.2f}" if price else "-",
            })  # fmt: skip
    return found


def _scaled(value: float | None) -> str:
    """Terabytes or teraFLOP per second."""
    return f"{value / TB:,.4g}" if value else "-"


def _clusters(filter_: str, units: str, plain: bool) -> list[Row]:
    found = []
    for name in load.names("clusters"):
        if filter_ in name:
            node = load.cluster(name)
            nic = node.nic_per_device
            found.append({
                "name": name, "hardware": node.hardware or "any", "devices_per_node": node.devices_per_node,
                "nic_per_device": nic if plain else f"{nic * 8 / 1e9:,.0f} Gb/s" if nic else "-",
                "host_memory": node.host_memory if plain else
                format_bytes(node.host_memory, units, 0) if node.host_memory else "-",
            })  # fmt: skip
    return found


def _formats(filter_: str, units: str, plain: bool) -> list[Row]:
    names = [(name, "weights") for name in format_names()] + [(name, "kv") for name in kv_format_names()]
    found = []
    for name, use in names:
        if filter_ in name:
            entry = format_named(name) if use == "weights" else kv_format_named(name)
            bits = usual_bits(entry)
            found.append({"name": name, "use": use, "bits_per_weight": bits if plain else f"{bits:.4g}",
                          "computes_in": entry.compute, "title": entry.title})  # fmt: skip
    return found


def _software(filter_: str, units: str, plain: bool) -> list[Row]:
    return [{"name": name, "title": load.software(name).title, "tasks": " ".join(load.software(name).tasks)}
            for name in load.software_names() if filter_ in name]  # fmt: skip


def render(found: list[Row], form: str) -> str:
    """A list in an output format."""
    if form == "json":
        from calc.reports.as_json import dumps

        return dumps(found)
    if form == "csv":
        from calc.reports import csv

        return csv.rows(found)
    import tabulate

    found = [{HEADERS.get(key, key): value for key, value in row.items()} for row in found]
    if form == "table" and sys.stdout.isatty():
        found = _cut(found)
    tabulate.MIN_PADDING = 0  # headers need no room beyond the gap between columns
    return tabulate.tabulate(found, headers="keys", tablefmt="pipe" if form == "markdown" else "plain",
                             disable_numparse=True)  # fmt: skip


HEADERS = {"kv_bytes_per_token": "KV/token", "bits_per_weight": "bits", "computes_in": "computes in",
           "usd_per_hour": "$/h", "bandwidth": "TB/s", "peak_16_bit": "TFLOP/s (16-bit)", "power": "W",
           "parameters": "params", "devices_per_node": "devices", "nic_per_device": "network",
           "host_memory": "host"}  # fmt: skip
"""Short column titles for people; JSON and CSV keep the keys."""


def _cut(found: list[Row]) -> list[Row]:
    """Rows whose last column is cut to what a terminal's line leaves; a pipe gets all of it."""
    if not found:
        return found
    *columns, last = found[0]
    width = sum(max(len(key), *(len(str(row[key])) for row in found)) + 2 for key in columns)
    room = max(12, shutil.get_terminal_size().columns - 1 - width)
    return [{**row, last: str(row[last]) if len(str(row[last])) <= room else f"{str(row[last])[: room - 1]}…"}
            for row in found]  # fmt: skip


def record(name: str) -> Row:
    """One record: a catalogue name of any kind, or a file taken by its content."""
    if name.startswith("hf:") or name.endswith((".gguf", ".safetensors", ".index.json")) or is_folder(name):
        return model_record(load.model(name))
    if load.names_hub_repository(name):
        return model_record(load.model(name))  # which says what to write in its place
    if load.looks_like_path(name):
        return _file_record(name)
    for kind in ("models", "hardware", "clusters"):
        try:
            load.find(kind, name)
        except UnknownNameError as error:
            if "could be" in str(error):
                raise
            continue
        if kind == "models":
            return model_record(load.model(name))
        return hardware_record(load.hardware(name)) if kind == "hardware" else cluster_record(name)
    if name in load.software_names():
        return {"record": "software", **_record_of(load.software(name))}
    for named in (format_named, kv_format_named):
        try:
            found = named(name)
        except CalcError:
            continue
        return {"record": "format", "name": found.name, "title": found.title, "bits_per_weight": usual_bits(found),
                "compute": found.compute, "roles": list(found.roles), "source": found.source}  # fmt: skip
    every = [*(n for kind in ("models", "hardware", "clusters") for n in load.names(kind)), *format_names()]
    raise unknown("name", name, every)


def _file_record(path: str) -> Row:
    documents = load_file(path)
    data = documents[0].data if len(documents) == 1 else None
    if isinstance(data, dict) and "memory" in data and "peak" in data:
        return hardware_record(load.hardware_from(documents[0]))
    if isinstance(data, dict) and "schema" in data:
        scenario = scenario_file.scenario_from(documents[0])
        return {"record": "scenario", "name": scenario.name, "task": scenario.task, "model": scenario.model.name,
                "hardware": scenario.hardware.name, "devices": scenario.devices,
                "software": scenario.software.name, "scenario": data}  # fmt: skip
    if data is None:
        raise CalcError(f"holds {len(documents)} documents; show takes one", shown(path).strip("'"))
    return model_record(load.model_from(documents[0], name=Path(path).stem))


def model_record(model: Model) -> Row:
    """A model's counts, cache and shape."""
    counts = parameters(model)
    text = parameters(model, towers=False)
    half = kv_format_named("bf16")
    return {
        "record": "model", "name": model.name, "title": model.title or model.name, "family": model.family,
        "parameters": counts.total, "active_parameters": counts.active, "embedding_parameters": counts.embedding,
        "trainable_parameters": counts.trainable, "non_embedding_parameters": counts.non_embedding,
        "input_embedding_parameters": counts.embed_tokens, "head_parameters": counts.lm_head,
        "position_parameters": counts.positions, "expert_parameters": counts.experts,
        "text_parameters": text.total,
        "kv_bytes_per_token": kv_bytes_per_token(model, half),
        "index_bytes_per_token": index_bytes_per_token(model, half),
        "state_bytes_per_sequence": state_bytes_per_sequence(model, half),
        "hidden_size": model.hidden_size, "vocab_size": model.vocab_size, "num_hidden_layers": model.num_layers,
        "max_context": model.max_positions, "weight_format": model.weight_format, "stored_bytes": model.stored_bytes,
        "image_tokens": model.image_tokens,
        "layers": [row for stack in model.stacks for row in _layers(stack)],
        "lora_targets": lora_targets(model), "notes": list(model.notes),
    }  # fmt: skip


def _layers(stack: Stack) -> list[Row]:
    """Each kind of layer with its parts and their parameters."""
    found = []
    for layer, indices in stack.kinds():
        parts: dict[str, int] = {}
        for part in layer.parts:
            size = sum(weight.elements for weight in part.weights() if weight.stored)
            parts[part.group] = parts.get(part.group, 0) + size
        found.append({"stack": stack.name, "kind": layer.kind, "count": len(indices), "parameters": sum(parts.values()),
                      "parts": parts})  # fmt: skip
    return found


def lora_targets(model: Model) -> list[str]:
    """Names of the matrices that an adapter can be put on: those of matrix multiplications in the text layers."""
    found: dict[str, None] = {}
    for stack in model.text_stacks:
        for layer, _ in stack.kinds():
            for part in layer.parts:
                for weight in part.weights():
                    if weight.role in ("linear", "expert"):
                        found[weight.name] = None
    return list(found)


def hardware_record(device: Hardware) -> Row:
    """A device with the keys of its file, figures in base units."""
    return {
        "record": "hardware", "name": device.name, "kind": device.kind, "title": device.title,
        "vendor": device.vendor, "year": device.year,
        "memory": {"capacity": device.capacity, "usable": device.usable, "bandwidth": device.bandwidth,
                   "type": device.memory_type},
        "peak": device.peak, "link": device.link, "host_link": device.host_link, "network": device.network,
        "power": device.power, "compute_units": device.compute_units, "l2_cache": device.l2_cache, "node": device.node,
        "price": device.price, "slices": device.slices, "derived": device.derived, "conflicts": device.conflicts,
        "notes": device.notes, "sources": device.sources, "accessed": str(device.accessed),
    }  # fmt: skip


def cluster_record(name: str) -> Row:
    """A node with the keys of its file, figures in base units."""
    return {"record": "cluster", **_record_of(load.cluster(name))}


def _record_of(entry: Software | Cluster) -> Row:
    """A record with the keys of its file."""
    return {key: str(value) if key == "accessed" else value for key, value in asdict(entry).items()}


def show(records: list[Row], form: str, units: str) -> str:
    """Records in an output format."""
    if form == "json":
        from calc.reports.as_json import dumps

        return dumps(records[0] if len(records) == 1 else records)
    good = [entry for entry in records if "error" not in entry]
    if form == "csv":
        from calc.reports import csv

        return csv.rows({k: v for k, v in entry.items() if not isinstance(v, dict | list)} for entry in records)
    if form == "markdown":
        from calc.reports import markdown

        return "\n\n".join(markdown.table(("key", "value"), list(_lines(entry, ""))) for entry in good)
    blocks = []
    for entry in good:
        pairs = list(_lines(entry, ""))
        width = min(32, max((len(key) for key, _ in pairs), default=0))
        from calc.reports.table import wrap

        blocks.append("\n".join(line for key, value in pairs
                                for line in wrap(value, f"{key:{width}}  ", " " * (width + 2))))  # fmt: skip
    return "\n\n".join(blocks)


def _lines(value: Row, path: str) -> Iterator[tuple[str, str]]:
    """Dotted keys and printable values of a record; what is empty is left out."""
    for key, inner in value.items():
        name = f"{path}{key}"
        if inner in (None, "", [], {}):
            continue
        if isinstance(inner, dict):
            yield from _lines(inner, f"{name}.")
        elif isinstance(inner, list) and isinstance(inner[0], dict):
            for index, item in enumerate(inner):
                yield f"{name}[{index}]", ", ".join(f"{k} {_text(k, v)}" for k, v in item.items())
        elif isinstance(inner, list | tuple):
            yield name, ", ".join(_text(name, item) for item in inner)
        else:
            yield name, _text(name, inner)


BYTES = ("capacity", "usable", "memory", "l2_cache", "host_memory", "stored_bytes", "state_bytes_per_sequence",
         "kv_bytes_per_token")  # fmt: skip
RATES = ("bandwidth", "network", "nic_per_device", "host_memory_bandwidth", "read", "write")


def _text(name: str, value: Any) -> str:
    """A value for people, in the unit that its key has."""
    last = name.rpartition(".")[2]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {_text(key, inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if last in BYTES:
        return f"{format_bytes_fitting(value)} ({value:,.0f} bytes)"
    if last in RATES:
        return f"{value / 1e9:,.6g} GB/s"
    if name.startswith("peak."):
        return f"{value / TB:,.6g} TFLOP/s"
    if last == "power":
        return f"{value:,.0f} W"
    whole = int(value) if value == int(value) else value
    return f"{whole:,}" if isinstance(whole, int) and abs(whole) > 9999 else f"{whole:.4g}"
