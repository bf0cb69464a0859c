"""What is kept off the device: bytes on host and NVMe, traffic over the host link, the host's own optimizer step."""

from __future__ import annotations

from collections.abc import Sequence

from calc.errors import MissingFactError
from calc.formulas import activations, held, offload, states
from calc.formulas.activations import Keeping
from calc.formulas.exposed import exposed
from calc.specs.hardware import Cluster
from calc.training.plan import Plan
from calc.training.stages import Stage
from calc.training.states import ModelStates
from calc.xp import Number, maximum, minimum

KINDS = ("weights", "gradients", "optimizer")
HOST_SHARE = 0.5
"""Share of the host's memory bandwidth that a vectorized optimizer step reaches (DeepSpeed's CPU-Adam)."""
HOST_MOST = 130e9
"""What such a step moves at most [byte/s], whatever the memory: processors set the pace. Assumed: half of a DGX-2's
memory bandwidth (two sockets of six channels at 2,666 MT/s: 256 GB/s), about 4.6 billion parameters per second and
node. Eight B200 with Llama-3-8B at 8,192 tokens (ml-engineering) agree; no other run tells."""
OPTIMIZER_BUFFERS, PARAMETER_BUFFERS = 4, 5
"""Pinned buffers that transfers to NVMe go through, as DeepSpeed's defaults (buffer_count)."""
SIXTEEN_BIT = 2


def capacities(cluster: Cluster) -> tuple[tuple[str, str, str, Number | None], ...]:
    """Memory beside the devices': code of the problem where it is too small, its title, its tier, and bytes of a node;
    None where the record doesn't say."""
    return (("out_of_host_memory", "host memory", "host", cluster.host_memory),
            ("out_of_nvme", "NVMe", "nvme", (cluster.nvme or {}).get("capacity")))  # fmt: skip


def asked(plan: Plan) -> bool:
    """Whether anything is kept off the device."""
    return any(what != "none" for what in plan.scenario.parallel.offload) or plan.parts.optimizer.paged


def moved(plan: Plan, weights: Number, gradients: Number,
          optimizer: Number) -> dict[str, tuple[str, Number]]:  # fmt: skip
    """States of one device that are kept elsewhere: what it is -> tier and size [byte]."""
    if not asked(plan):
        return {}
    parallel = plan.scenario.parallel
    sizes = {"weights": weights, "gradients": gradients, "optimizer": optimizer}
    tiers = {what: offload.tier(what, parallel.offload, parallel.offload_to, plan.parts.optimizer.paged)
             for what in KINDS}  # fmt: skip
    return {what: (tier, sizes[what]) for what, tier in tiers.items() if tier != offload.DEVICE}


def staging(plan: Plan, model: ModelStates) -> Number:
    """Pinned host memory of one device that transfers to and from NVMe go through [byte]."""
    recipe = plan.parts.recipe
    found: Number = 0
    if plan.offloads("optimizer"):
        found = found + offload.staging_bytes(model.largest() / model.ranks(False, "optimizer"), recipe.updated_bytes,
                                              OPTIMIZER_BUFFERS)  # fmt: skip
    if plan.offloads("parameters"):
        found = found + offload.staging_bytes(model.largest(), recipe.weight_bytes, PARAMETER_BUFFERS)
    return found


def offload_seconds(plan: Plan, model: ModelStates, stages: Sequence[Stage], compute: Number) -> Number:
    """Seconds that traffic to host and NVMe, and the host's optimizer step, add to a step.

    Parameters and activations move behind the layers' computation; optimizer states hide behind nothing but the
    host's own computation (ZeRO-Infinity, arXiv 2104.07857, section 4.1).

    Raises
    ------
    MissingFactError
        The device's or the node's record lacks a bandwidth that this takes.
    """
    if not asked(plan):
        return 0
    return maximum(0, *(_stage_seconds(plan, model, stage, compute) for stage in stages))


def _stage_seconds(plan: Plan, model: ModelStates, stage: Stage, compute: Number) -> Number:
    """The same of the devices of one stage."""
    layout, recipe = plan.layout, plan.parts.recipe
    amounts = model.of(stage)
    link = host_link(plan)
    behind: Number = 0
    if plan.offloads("parameters"):
        loads = 3 if plan.recompute == "full" else 2
        # each rank loads its own shard over its own link, then they gather
        shard = amounts.elements / model.ranks(False, "weights")
        share = 1 if not plan.frozen else amounts.trained / maximum(amounts.elements, 1)
        weight = sum(amount.weights for amount in amounts.values()) / maximum(amounts.elements, 1)
        behind = behind + layout.micro_batches * offload.transfer_seconds(
            offload.parameter_link_bytes(shard, weight, share * recipe.gradient_bytes, loads), link)  # fmt: skip
    if plan.offloads("activations"):
        behind = behind + layout.micro_batches * offload.transfer_seconds(
            offload.activation_link_bytes(_sent(plan, stage)), link)  # fmt: skip
    hidden = plan.parts.profile.overlap_gather.value
    found = exposed(behind, compute, hidden)
    if plan.offloads("optimizer"):
        return found + _optimizer(plan, model, stage, link)
    # pages of a paged optimizer move only where the device overflows: none is counted
    return found


def _optimizer(plan: Plan, model: ModelStates, stage: Stage, link: Number) -> Number:
    """An optimizer's step on the host: gradients down, states read and written there, weights up."""
    cluster, recipe = plan.scenario.cluster, plan.trained_recipe
    amounts = model.of(stage)
    per_device = amounts.updated(model)
    per_node = offload.node_bytes(per_device, minimum(plan.layout.devices, cluster.devices_per_node))
    bandwidth = cluster.host_memory_bandwidth
    if bandwidth is None:
        raise MissingFactError(f"{cluster.name or 'the node'} has no host memory bandwidth; give "
                               "cluster.host_memory_bandwidth")  # fmt: skip
    traffic = states.step_traffic_bytes(plan.parts.optimizer, recipe, "linear", 1, "fused")
    host = offload.host_step_seconds(per_node, traffic, minimum(bandwidth, HOST_MOST / HOST_SHARE), HOST_SHARE)
    transfers = offload.transfer_seconds(offload.optimizer_link_bytes(
        per_device, SIXTEEN_BIT, recipe.weight_bytes, 1, 1), link)  # fmt: skip
    if plan.scenario.parallel.offload_to == "nvme":
        held_there = sum((amount.master + amount.moments) / model.ranks(expert, "optimizer")
                         for (_, expert), amount in amounts.items())  # fmt: skip
        moved_ = offload.nvme_step_bytes(held_there, 0, 0) * minimum(plan.layout.devices, cluster.devices_per_node)
        transfers = maximum(transfers, offload.transfer_seconds(moved_, nvme_bandwidth(plan)))
    return offload.step_seconds(host, transfers)


def _sent(plan: Plan, stage: Stage) -> Number:
    """Activations of one micro-batch that one device of a stage sends away [byte]: all that its layers keep, which
    under full recomputation are their inputs."""
    layout = plan.layout
    if plan.recompute == "full":
        per_layer = activations.layer_input_bytes(plan.scenario.model.hidden_size, SIXTEEN_BIT, layout.tensor,
                                                  plan.sequence_parallel)  # fmt: skip
        return held.activation_bytes(stage.layers, plan.tokens, per_layer)
    keeping = Keeping(kernels=plan.kernels, attention=plan.training.attention, recomputed=plan.modules)
    return sum(
        held.activation_bytes(count, plan.tokens, activations.bytes_per_token(
            activations.kept_by(kind.layer.parts, keeping), tensor=layout.tensor,
            sequence_parallel=plan.sequence_parallel, expert_tensor=layout.expert_tensor, keys=plan.length,
            encoder=1, imbalance=plan.imbalance))
        for kind, count in zip(plan.model.kinds, stage.counts, strict=True)
    )  # fmt: skip


def host_link(plan: Plan) -> Number:
    """Bandwidth of one device to its host, or its share of the NVMe's where parameters lie there [byte/s].

    Raises
    ------
    MissingFactError
        The device's record has no host link.
    """
    scenario = plan.scenario
    link = scenario.hardware.host_link
    if not link or not link.get("bandwidth"):
        raise MissingFactError(f"{scenario.hardware.name} has no link to the host; give hardware.host_link.bandwidth")
    bandwidth = float(link["bandwidth"])
    if scenario.parallel.offload_to == "nvme" and plan.offloads("parameters"):
        sharers = minimum(plan.layout.devices, scenario.cluster.devices_per_node)
        return minimum(bandwidth, nvme_bandwidth(plan) / sharers)
    return bandwidth


def nvme_bandwidth(plan: Plan) -> float:
    """Rate at which a node reads from NVMe [byte/s].

    Raises
    ------
    MissingFactError
        The node's record doesn't say.
    """
    cluster = plan.scenario.cluster
    nvme = cluster.nvme or {}
    if not nvme.get("read"):
        raise MissingFactError(f"{cluster.name or 'the node'} has no NVMe read bandwidth; give cluster.nvme.read")
    return float(nvme["read"])
