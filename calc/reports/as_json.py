"""The estimate as the contract's JSON object: plain bytes, never rounded for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from calc.composer import Estimate
from calc.formulas.parameters import parameters
from calc.reports.numbers import whole
from calc.reports.view import components, range_of, verdict

if TYPE_CHECKING:
    from calc.training.compose import TrainingEstimate


def model_counts(estimate: Estimate) -> dict[str, Any]:
    """The `model` object."""
    counts = parameters(estimate.scenario.model, towers=not estimate.scenario.text_only)
    return {
        "parameters": counts.total, "active_parameters": counts.active, "embedding_parameters": counts.embedding,
        "non_embedding_parameters": counts.non_embedding, "trainable_parameters": counts.trainable,
    }  # fmt: skip


def as_dict(estimate: Estimate | TrainingEstimate) -> dict[str, Any]:
    """One estimate, keys as in the contract."""
    if not isinstance(estimate, Estimate):
        from calc.reports.training_json import as_dict as training

        return training(estimate)
    scenario, layout, worst, limits = estimate.scenario, estimate.layout, estimate.worst, estimate.limits
    low, high = range_of(estimate)
    rows = {row.key: whole(round(row.value)) for row in components(estimate)}
    rows = {"weights": rows["weights"], "gradients": 0, "optimizer": 0, "activations": rows["activations"],
            "logits": rows["logits"], "adapter": 0, "kv_cache": rows["kv_cache"], "state_cache": rows["state_cache"],
            "buffers": rows["buffers"], "overhead": rows["overhead"]}  # fmt: skip
    return {
        "schema": 1,
        "name": scenario.name, "task": scenario.task, "model_name": scenario.model.name,
        "hardware_name": scenario.hardware.name, "devices": layout.devices,
        "feasible": estimate.feasible, "verdict": verdict(estimate),
        "problems": [{"code": code, "message": message} for code, message in estimate.problems],
        "suggestions": [
            {"change": found.change, "effect": found.effect, "memory_saved_bytes": round(found.saved),
             "fits": found.fits} for found in estimate.suggestions
        ],
        "model": model_counts(estimate),
        "parallel": {"data": layout.data, "tensor": layout.tensor, "pipeline": layout.pipeline,
                     "context": layout.context, "expert": layout.expert, "expert_tensor": layout.expert_tensor,
                     "sharding": "none"},
        "memory": {
            "capacity_bytes": whole(scenario.hardware.capacity or scenario.total_bytes),
            "usable_bytes": whole(round(scenario.usable_bytes)),
            "per_device_bytes": sum(rows.values()),
            "allocated_bytes": whole(round(worst.allocated)), "reserved_bytes": whole(round(worst.reserved)),
            "engine_bytes": whole(round(scenario.usable_bytes)) if scenario.utilization < 1 else None,
            "low_bytes": round(low), "high_bytes": round(high),
            "worst_device": worst.stage.label, "worst_instant": worst.instant.name.rpartition(".")[2],
            "components": rows,
            "host_bytes": whole(round(estimate.host_bytes)), "nvme_bytes": 0,
        },
        "inference": {
            "weight_format": estimate.deployment.storage.name, "kv_format": estimate.deployment.kv_format.name,
            "kv_bytes_per_token": limits.kv_bytes_per_token,
            "kv_bytes_per_late_token": limits.kv_bytes_per_late_token,
            "index_bytes_per_token": limits.index_bytes_per_token,
            "state_bytes_per_sequence": limits.state_bytes_per_sequence,
            "max_batch_size": limits.max_batch_size, "max_context": limits.max_context,
            "max_context_by_memory": limits.max_context_by_memory, "kv_cache_tokens": limits.kv_cache_tokens,
            "fewest_devices": limits.fewest_devices,
            "formats": [{"weight_format": name, "weights_bytes": round(size), "fits": fits}
                        for name, size, fits in limits.formats],
        },
        "notes": list(estimate.notes),
    }  # fmt: skip


def dumps(data: Any) -> str:
    """JSON text, two spaces, no NaN."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
