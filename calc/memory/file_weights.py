"""Weights of a model whose file was read: exact bytes from its header in place of the format's arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from calc.formulas.sharding import shard
from calc.formulas.storage import weight_bytes
from calc.ledger import Term, computed, total
from calc.memory.placement import Deployment, Placed, Stage, placed_weights
from calc.specs.plan import Layout
from calc.xp import Number

TABLES = ("embedding", "position", "table")
ONE_DEVICE = Layout()


def applies(deployment: Deployment) -> bool:
    """Whether the file's own bytes are asked for: a file was read, and no other format was named."""
    scenario = deployment.scenario
    return scenario.model.stored_bytes is not None and scenario.inference.weight_format in (
        None, scenario.model.weight_format)  # fmt: skip


def held_bytes(stored: Number, share: Number) -> Number:
    """A device's part of some of a file's tensors.

    Equation
    --------
    bytes = stored * share

    Parameters
    ----------
    stored : Number
        Bytes of the tensors as the file's header lists them [byte].
    share : Number
        What the layout puts on the device: 1 where it isn't divided [1].

    Source
    ------
    The header of the file itself (GGUF tensor infos, safetensors data offsets).
    """
    return stored * share


def file_weights_term(deployment: Deployment, stage: Stage, name: str, *, host: bool = False) -> Term:
    """Weights that a device (or the host) holds, by the groups of the file's tensors."""
    model, layout = deployment.scenario.model, deployment.layout
    if not model.stored:
        share = 0 if host else 1 / (layout.tensor * layout.pipeline)
        return total(name, [computed(f"{name}.all", held_bytes, stored=model.stored_bytes, share=share)])
    shares = _shares(deployment, stage, host)
    sums: dict[tuple[str, float], int] = {}
    for group, size in model.stored:
        for part, share in _placed(deployment, stage, group, shares, host):
            sums[part, share] = sums.get((part, share), 0) + size
    terms = [computed(f"{name}.{part}", held_bytes, stored=size, share=share) for (part, share), size in sums.items()]
    return total(name, terms)


def _placed(deployment: Deployment, stage: Stage, group: str, shares: dict[tuple[str, int, bool], float],
            host: bool) -> Iterator[tuple[str, float]]:  # fmt: skip
    """The part of the ledger that a group of the file belongs to on this device, and the device's share of it."""
    scenario = deployment.scenario
    stack, _, rest = group.partition(".")
    if rest:
        index, _, part = rest.partition(".")
        share = shares.get((stack, int(index), part == "experts"))
        if share is not None:
            yield part, share
        return
    if group in TABLES:
        if stage.first and scenario.software.embedding_on_host == host:
            yield group, shares.get((group, -1, False), 1.0)
        tied = group == "embedding" and "head" not in dict(scenario.model.stored)
        again = not stage.first or scenario.software.embedding_on_host or scenario.software.duplicate_tied_head
        if tied and again and stage.last and deployment.head_on_device and not host:
            yield "head", shares.get(("head", -1, False), 1.0)
    elif group in ("vision", "audio"):
        if stage.first and not host and not scenario.text_only:
            yield group, 1.0
    elif group != "mtp" and stage.last and deployment.head_on_device != host:
        yield group, shares.get((group, -1, False), 1.0)


def _shares(deployment: Deployment, stage: Stage, host: bool) -> dict[tuple[str, int, bool], float]:
    """Share of a device of each layer (experts apart) and each end: sharded over whole, by the declared weights."""
    here: dict[tuple[str, int, bool], Number] = {}
    whole: dict[tuple[str, int, bool], Number] = {}
    for placed in placed_weights(deployment, stage, host=host):
        expert = placed.weight.role == "expert"
        sharded, full = (_bytes(deployment, placed, layout) for layout in (deployment.layout, ONE_DEVICE))
        for index in placed.indices:
            place = (placed.weight.role, -1, False) if placed.layer is None else (placed.stack.name, index, expert)
            here[place] = here.get(place, 0) + sharded
            whole[place] = whole.get(place, 0) + full
    return {place: here[place] / full if full else 1.0 for place, full in whole.items()}


def _bytes(deployment: Deployment, placed: Placed, layout: Layout) -> Number:
    """Bytes of a declared weight in one layer under a layout."""
    weight, storage = placed.weight, deployment.storage
    multiple = deployment.scenario.software.vocabulary_multiple if layout is deployment.layout else 1
    inputs, outputs, copies = shard(weight, layout, multiple)
    group = placed.part.group
    kind = (storage.ends(weight, placed.stack.name, group) if placed.layer is None
            else storage.layers(placed.stack, placed.layer, weight, placed.indices[:1], group)[0][0])  # fmt: skip
    return weight_bytes(1, copies, inputs, outputs, int(weight.bias), kind)
