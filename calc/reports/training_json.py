"""The estimate of a training plan as the contract's JSON object: base units, never rounded for people."""

from __future__ import annotations

from typing import Any

from calc.formulas import flop_conventions
from calc.formulas.adapters import adapter_count
from calc.formulas.parameters import parameters
from calc.ledger import Term
from calc.reports import training_ledger
from calc.reports import training_view as view
from calc.reports.numbers import whole
from calc.training.compose import TrainingEstimate
from calc.training.phases import COMPONENTS, phases_as_dict
from calc.training.run import Run

RUN_KEYS = {"steps": "steps", "seconds": "seconds", "device_hours": "device_hours", "cost": "cost_usd",
            "energy": "energy_kwh", "carbon": "co2_kg", "mtbf": "mtbf_s", "interval": "checkpoint_interval_s",
            "goodput": "goodput"}  # fmt: skip
"""Field of `Run` -> key of `run`."""


def as_dict(estimate: TrainingEstimate) -> dict[str, Any]:
    """One estimate, keys as in the contract."""
    scenario, layout, worst, plan = estimate.scenario, estimate.layout, estimate.worst, estimate.plan
    rows = {row.key: whole(round(row.value)) for row in view.components(estimate)}
    rows = {key: rows.get(key, 0) for key in COMPONENTS}
    low, high = view.range_of(estimate)
    fastest, slowest = estimate.time.range()
    found: dict[str, Any] = {
        "schema": 1,
        "name": scenario.name, "task": scenario.task, "model_name": scenario.model.name,
        "hardware_name": scenario.hardware.name, "devices": layout.devices,
        "feasible": estimate.feasible, "verdict": view.verdict(estimate),
        "problems": [{"code": code, "message": message} for code, message in estimate.problems],
        "suggestions": [
            {"change": one.change, "effect": one.effect, "memory_saved_bytes": round(one.saved), "fits": one.fits,
             "speed": one.speed} for one in estimate.advice
        ],
        "model": model_counts(estimate),
        "parallel": {"data": layout.data, "tensor": layout.tensor, "pipeline": layout.pipeline,
                     "context": layout.context, "expert": layout.expert, "expert_tensor": layout.expert_tensor,
                     "virtual_pipeline": layout.virtual, "sequence": plan.sequence_parallel and layout.tensor > 1,
                     "schedule": plan.schedule, "sharding": plan.sharding,
                     "shard_group": scenario.parallel.shard_group, "offload": list(scenario.parallel.offload),
                     "offload_to": scenario.parallel.offload_to},
        "training": {"sequence_length": plan.training.sequence_length, "micro_batch_size": layout.micro_batch,
                     "global_batch_size": layout.global_batch, "micro_batches": whole(layout.micro_batches),
                     "tokens": plan.training.tokens, "precision": plan.training.precision,
                     "recipe": plan.parts.recipe.name, "optimizer": plan.parts.optimizer.name,
                     "recompute": list(plan.training.recompute), "kernels": plan.kernels,
                     "software": scenario.software.name,
                     "adapter": None if plan.adapter is None else plan.adapter.kind.name,
                     "base_format": plan.base.name if plan.frozen else None},
        "memory": {
            "capacity_bytes": whole(scenario.hardware.capacity or scenario.total_bytes),
            "usable_bytes": whole(round(estimate.usable_bytes)),
            "per_device_bytes": sum(rows.values()),
            "allocated_bytes": whole(round(worst.allocated)), "reserved_bytes": whole(round(worst.reserved)),
            "low_bytes": round(low), "high_bytes": round(high),
            "worst_device": worst.label, "worst_instant": view.instant(estimate),
            "components": rows,
            "stages": [{"stage": int(stage.stage.index), "per_device_bytes": round(stage.memory.value)}
                       for stage in estimate.found.stages],
            "host_bytes": round(estimate.host_bytes), "nvme_bytes": round(estimate.nvme_bytes),
            "checkpoint_bytes": round(estimate.run.checkpoint.value),
        },
        "flops": {**{key: term.value for key, term in estimate.flops.items()},
                  "conventions_per_token": flop_conventions.conventions(scenario.model, plan.length)},
        "time": {"step_s": estimate.time.value, "low_s": fastest, "high_s": slowest,
                 "components": {term.name.rpartition(".")[2]: term.value for term in estimate.time.terms},
                 "compute": training_ledger.compute_parts(estimate), "measured": plan.parts.efficiency.measured},
        "throughput": {key: term.value for key, term in estimate.throughput.items()},
        "run": run_dict(estimate.run, estimate),
        "notes": list(estimate.notes),
    }  # fmt: skip
    if estimate.phases:
        found["phases"] = phases_as_dict(estimate)
    return found


def run_dict(run: Run, estimate: TrainingEstimate) -> dict[str, Any]:
    """What applies to the run, the range of what has one, and what the price rests on."""
    terms: dict[str, Term] = {key: term for field, key in RUN_KEYS.items() if (term := getattr(run, field)) is not None}
    found: dict[str, Any] = {key: whole(term.value) for key, term in terms.items()}
    ranges = {key: dict(zip(("low", "high"), term.range(), strict=True)) for key, term in terms.items()
              if term.low is not None}  # fmt: skip
    if ranges:
        found["ranges"] = ranges
    if run.cost is not None:
        given = estimate.scenario.cost.price
        record = estimate.scenario.hardware.price or {}
        found["price"] = {"usd_per_hour": run.cost.inputs["price"]}
        if given is None:
            found["price"] |= {"date": str(record.get("date")), "source": record.get("source")}
    return found


def model_counts(estimate: TrainingEstimate) -> dict[str, Any]:
    """The `model` object; what is trained is counted to the parameter."""
    counts = parameters(estimate.scenario.model, towers=not estimate.scenario.text_only)
    return {
        "parameters": counts.total, "active_parameters": counts.active, "embedding_parameters": counts.embedding,
        "non_embedding_parameters": counts.non_embedding, "trainable_parameters": trained(estimate),
    }  # fmt: skip


def trained(estimate: TrainingEstimate) -> int:
    """Parameters that the plan trains: an adapter's, a share of the model's, or all of the text model's."""
    plan = estimate.plan
    if plan.adapter is not None:
        given = (plan.training.adapter or {}).get("share")
        adapted = adapter_count(plan.scenario.model, plan.adapter.kind.name, plan.adapter.rank, plan.adapter.targets,
                                given)  # fmt: skip
        counted: int = round(adapted.trained)
        return counted
    model = plan.model
    ends = (*model.first, *model.last, *model.mtp)
    parts = [(part, 1) for part in ends] + [(part, kind.count) for kind in model.kinds for part in kind.layer.parts]
    return sum(int(weight.elements) * times for part, times in parts for weight in part.weights() if weight.stored)
