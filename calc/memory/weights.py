"""Weights of a device as a ledger of terms: declared ones in their formats, or a file's own bytes."""

from __future__ import annotations

from typing import Any

from calc.formulas.sharding import padded_expert, shard
from calc.formulas.storage import TOWERS, weight_bytes
from calc.ledger import Term, computed, total
from calc.memory.placement import Deployment, Stage, placed_weights


def weights_term(deployment: Deployment, stage: Stage, name: str = "memory.weights", *, host: bool = False) -> Term:
    """Weights that a device (or, with `host`, its share of the host) holds, by the groups that parts belong to."""
    software, storage = deployment.scenario.software, deployment.storage
    counts: dict[tuple[Any, ...], int] = {}
    for placed in placed_weights(deployment, stage, host=host):
        part, weight = placed.part, placed.weight
        inputs, outputs, copies = shard(weight, deployment.layout, software.vocabulary_multiple)
        formats = ([(storage.ends(weight, placed.stack.name, part.group), 1)] if placed.layer is None
                   else storage.layers(placed.stack, placed.layer, weight, placed.indices, part.group))  # fmt: skip
        for format_, layers in formats:
            sizes = (inputs, outputs)
            if weight.role == "expert" and format_.name.startswith("mxfp4"):
                sizes = padded_expert(weight, inputs, outputs, software.mxfp4_hidden_multiple,
                                      software.mxfp4_inner_multiple)  # fmt: skip
            group = placed.stack.name if placed.stack.name in TOWERS else part.group
            same = (group, weight.name, copies, *sizes, int(weight.bias), format_)
            counts[same] = counts.get(same, 0) + layers
    groups: dict[str, list[Term]] = {}
    for (group, weight_name, copies, inputs, outputs, bias, format_), layers in counts.items():
        term = computed(f"{name}.{group}.{weight_name}", weight_bytes, layers=layers, copies=copies, inputs=inputs,
                        outputs=outputs, bias=bias, format=format_)  # fmt: skip
        groups.setdefault(group, []).append(term)
    return total(name, [total(f"{name}.{group}", terms) for group, terms in groups.items()])


def held_weights(deployment: Deployment, stage: Stage, name: str = "memory.weights", *, host: bool = False) -> Term:
    """Weights on a device (or the host): the file's own bytes where one was read, else the declared weights in their
    formats."""
    if deployment.scenario.model.stored_bytes is not None:
        from calc.memory.file_weights import applies, file_weights_term

        if applies(deployment):
            return file_weights_term(deployment, stage, name, host=host)
    return weights_term(deployment, stage, name, host=host)
