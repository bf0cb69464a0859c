"""What the groups of a plan exchange in one layer and micro-batch: tensor, expert and context parallelism."""

from __future__ import annotations

from dataclasses import dataclass

from calc.architecture.part import Part, Scores
from calc.formulas import collectives, traffic
from calc.formulas.collectives import Fabric, Group
from calc.training.layer_time import LayerTime
from calc.training.plan import Plan
from calc.xp import ceil_div, is_array, minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The process groups of a plan, placed on the network."""

    tensor: Group
    context: Group
    expert: Group
    expert_tensor: Group
    data: Group
    expert_data: Group
    stages: Group


def groups(plan: Plan, fabric: Fabric) -> Groups:
    """Groups placed from the inside out: tensor, context, expert, data, pipeline (Megatron-LM's default order)."""
    layout = plan.layout
    within = layout.expert_tensor * layout.expert
    return Groups(
        tensor=collectives.place(fabric, layout.tensor, 1),
        context=collectives.place(fabric, layout.context, layout.tensor),
        expert=collectives.place(fabric, layout.expert, layout.expert_tensor),
        expert_tensor=collectives.place(fabric, layout.expert_tensor, 1),
        data=collectives.place(fabric, plan.data_group, layout.tensor),
        expert_data=collectives.place(fabric, plan.expert_data_group, within),
        stages=collectives.place(fabric, layout.pipeline, layout.stage_devices),
    )  # fmt: skip


class Exchanges:
    """Exchanges of a plan's layers, added to their times."""

    def __init__(self, plan: Plan, fabric: Fabric) -> None:
        self.plan = plan
        self.groups = groups(plan, fabric)
        self.tokens = plan.tokens
        self.imbalance = plan.imbalance

    def shards(self, group: Group) -> tuple[Group, Group | None]:
        """The ranks that share one sharded copy, and those that hold the same part of other copies (hybrid)."""
        limit = self.plan.scenario.parallel.shard_group
        if limit is None:
            return group, None
        inside = minimum(group.ranks, limit)
        stride = self.plan.layout.tensor
        return (collectives.place(group.fabric, inside, stride),
                collectives.place(group.fabric, group.ranks / inside, stride * inside))  # fmt: skip

    def tensor(self, reduced: int, time: LayerTime, again: int) -> None:
        """Sums over the tensor group: one all-reduce (or all-gather and reduce-scatter) per row-split matrix, forward
        and backward (Megatron-LM, arXiv 1909.08053, section 3)."""
        group = self.groups.tensor
        if not is_array(group.ranks) and group.ranks == 1:
            return
        moved = traffic.tensor_traffic(self.tokens, self.plan.scenario.model.hidden_size)
        if self.plan.sequence_parallel:
            gathered = collectives.all_gather(moved, group) * reduced
            once = 2 * gathered
            # the gathered input is not kept: gathered once more for its weight's gradient
            time.tensor = time.tensor + gathered
        else:
            once = collectives.all_reduce(moved, group) * reduced
        time.tensor = time.tensor + (2 + again) * once
        time.forward_shares = time.forward_shares + once

    def experts(self, part: Part, time: LayerTime, again: int) -> None:
        """Dispatch to the experts' devices and combination, forward and backward."""
        expert = next((weight for weight in part.weights() if weight.role == "expert"), None)
        if expert is None:
            return
        plan = self.plan
        moved = traffic.expert_traffic(self.tokens / plan.layout.tensor, expert.inputs, expert.used) * self.imbalance
        group, limit = self.groups.expert, plan.scenario.parallel.node_limit or 0
        if plan.parts.profile.expert_dispatch == "once_per_node":
            limit = traffic.reached_nodes(expert.used, group.nodes, limit)
        once = collectives.all_to_all(moved, group, node_limit=limit, experts_per_token=expert.used)
        narrow = plan.parts.recipe.dispatch_bytes / 2
        sent = once if narrow == 1 else collectives.all_to_all(moved * narrow, group, node_limit=limit,
                                                               experts_per_token=expert.used)  # fmt: skip
        inside = collectives.all_reduce(moved * plan.layout.expert_tensor, self.groups.expert_tensor)
        time.expert = time.expert + (2 + again) * (sent + once) + (2 + again) * inside
        time.forward_shares = time.forward_shares + sent + once + inside

    def context(self, scores: Scores, time: LayerTime) -> None:
        """Exchange of keys and values over the context group."""
        plan, layout = self.plan, self.plan.layout
        if not is_array(layout.context) and layout.context == 1:
            return
        heads = scores.kv_heads or scores.heads
        held = ceil_div(heads, layout.tensor) if scores.split else heads
        width = held * (scores.qk_dim + scores.v_dim) / 2
        kind = plan.scenario.parallel.context_kind
        if kind == "ulysses":
            query = ceil_div(scores.heads, layout.tensor) * (scores.qk_dim + scores.v_dim) / 2
            once = collectives.all_to_all(traffic.ulysses_traffic(self.tokens, query, width), self.groups.context)
            back = once
        elif kind == "ring":
            moved = traffic.ring_traffic(self.tokens, width) * (layout.context - 1)
            once = collectives.p2p(moved, self.groups.context, layout.context - 1)
            back = 2 * once
        else:
            moved = traffic.gather_traffic(self.tokens, width, layout.context)
            once = collectives.all_gather(moved, self.groups.context)
            back = 2 * once
        time.context = time.context + once + back
        time.forward_shares = time.forward_shares + once
