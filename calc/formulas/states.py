"""Model states on one device: weights, gradients, optimizer; their sharding, and what a step holds beside them."""

from __future__ import annotations

from calc.specs.optimizer import VECTORS, Optimizer, State
from calc.specs.recipe import Recipe
from calc.xp import Number, maximum, minimum, where

SHARDED = {
    "none": (),
    "zero1": ("optimizer",),
    "zero2": ("optimizer", "gradients"),
    "zero3": ("optimizer", "gradients", "weights"),
}
"""What each ZeRO stage divides over the data-parallel group."""


def split(sharding: str, what: str, ranks: Number) -> Number:
    """Devices that `weights`, `gradients` or `optimizer` are divided over.

    Parameters
    ----------
    sharding : str
        none, zero1 (Megatron's distributed optimizer), zero2 (FSDP SHARD_GRAD_OP), zero3 (FSDP FULL_SHARD).
    what : str
        weights, gradients or optimizer.
    ranks : Number
        Devices of the sharding group [1].

    Examples
    --------
    >>> [split("zero2", what, 64) for what in ("weights", "gradients", "optimizer")]
    [1, 64, 64]
    """
    return ranks if what in SHARDED[sharding] else 1


def dense_group(data: Number, context: Number) -> Number:
    """Devices that hold the same part of a dense layer: what its states are sharded over.

    Equation
    --------
    group = data * context

    Parameters
    ----------
    data, context : Number
        Degrees of data and context parallelism [1].

    Source
    ------
    Megatron-LM docs, dist_optimizer.md, and parallel_state.py (the data-parallel group with context parallelism).
    """
    return data * context


def expert_group(data: Number, context: Number, tensor: Number, expert: Number, expert_tensor: Number) -> Number:
    """Devices that hold the same part of the same experts: what expert states are sharded over.

    Equation
    --------
    group = max(data * context * tensor / (expert * expert_tensor), 1)

    Parameters
    ----------
    data, context, tensor : Number
        Degrees of parallelism of the dense parts [1].
    expert, expert_tensor : Number
        Devices that the experts of a layer are spread over, and that share one expert [1].

    Source
    ------
    Megatron-LM parallel_state.py (expert-data-parallel group); Megatron Core theoretical_memory_usage.py.

    Examples
    --------
    DeepSeek-V3 on 2048 devices, 16 stages, experts over 64: dense states over 128 devices, experts' over 2.

    >>> dense_group(128, 1), expert_group(128, 1, 1, 64, 1)
    (128, 2.0)
    """
    return maximum(data * context * tensor / (expert * expert_tensor), 1)


def sharing(group: Number, shard_group: Number | None = None) -> Number:
    """Devices that one sharded copy is spread over under hybrid sharding.

    Equation
    --------
    sharing = min(group, shard_group), or the group where the plan names none

    Parameters
    ----------
    group : Number
        Devices that hold the same part [1].
    shard_group : Number, optional
        Devices that share one copy, by the plan; the copies are replicas of one another [1].

    Source
    ------
    Zhao et al. 2023 (PyTorch FSDP), arXiv 2304.11277, section 3.2.2 (hybrid sharding).
    """
    return group if shard_group is None else minimum(group, shard_group)


def weights_bytes(elements: Number, element_bytes: Number, ranks: Number) -> Number:
    """Stored weights on one device.

    Equation
    --------
    bytes = elements * element_bytes / ranks

    Parameters
    ----------
    elements : Number
        Parameters of the device's tensor, pipeline and expert shares [1].
    element_bytes : Number
        Bytes per parameter, by the recipe [byte].
    ranks : Number
        Devices that they are sharded over, 1 below ZeRO-3 [1].

    Source
    ------
    Rajbhandari et al. 2020 (ZeRO), arXiv 1910.02054, section 5; shards are taken to be even.
    """
    return elements * element_bytes / ranks


def gradients_bytes(elements: Number, element_bytes: Number, ranks: Number) -> Number:
    """Gradients on one device, all copies.

    Equation
    --------
    bytes = elements * element_bytes / ranks

    Parameters
    ----------
    elements : Number
        Trained parameters of the device's tensor, pipeline and expert shares [1].
    element_bytes : Number
        Bytes of gradient per parameter, by the recipe [byte].
    ranks : Number
        Devices that they are sharded over, 1 below ZeRO-2 [1].

    Source
    ------
    Rajbhandari et al. 2020 (ZeRO), arXiv 1910.02054, section 5.
    """
    return elements * element_bytes / ranks


def optimizer_bytes(elements: Number, master_bytes: Number, moment_bytes: Number, ranks: Number) -> Number:
    """Master weights and optimizer states on one device.

    Equation
    --------
    bytes = elements * (master_bytes + moment_bytes) / ranks

    Parameters
    ----------
    elements : Number
        Trained parameters of the device's tensor, pipeline and expert shares [1].
    master_bytes : Number
        Bytes of a master copy per parameter, 0 where there is none [byte].
    moment_bytes : Number
        Bytes of all other states per parameter; their mean where matrices differ (`optimizer_state_bytes`) [byte].
    ranks : Number
        Devices that they are sharded over, 1 without ZeRO [1].

    Source
    ------
    Rajbhandari et al. 2020 (ZeRO), arXiv 1910.02054, figure 1 and section 5.

    Examples
    --------
    7.5 billion parameters on 64 devices, ZeRO stages 0 to 3: 120, 31.4, 16.6 and 1.9 GB.

    >>> totals = []
    >>> for sharding in ("none", "zero1", "zero2", "zero3"):
    ...     weights, gradients, states = (split(sharding, what, 64) for what in ("weights", "gradients", "optimizer"))
    ...     totals.append(weights_bytes(7.5e9, 2, weights) + gradients_bytes(7.5e9, 2, gradients)
    ...                   + optimizer_bytes(7.5e9, 4, 8, states))
    >>> [round(total / 1e9, 2) for total in totals]
    [120.0, 31.41, 16.64, 1.88]
    """
    return elements * (master_bytes + moment_bytes) / ranks


def optimizer_state_bytes(optimizer: Optimizer, recipe: Recipe, role: str, rows: Number, columns: Number,
                          copies: Number = 1, bias: bool = False) -> Number:  # fmt: skip
    """What an optimizer keeps of some equal tensors beside the master copy, unsharded.

    Equation
    --------
    bytes = copies * (sum over states of numbers * width, and that of a vector of rows where there is a bias)
    numbers = rows * columns (full), rows + columns (factored), rows (one per row),
    min(rank, shorter) * longer (low rank), min(rank, shorter) * shorter (projector)
    width = the state's bytes, or as wide as what is updated, and 4 / block where numbers share a maximum

    Parameters
    ----------
    optimizer : Optimizer
    recipe : Recipe
        Says how wide moments are where the optimizer doesn't.
    role : str
        Role of the weight; an optimizer may treat roles differently. Biases are vectors.
    rows, columns : Number
        Outputs and inputs of one tensor on the device; a vector has one column [1].
    copies : Number
        Equal tensors: layers, experts [1].
    bias : bool
        Whether each tensor comes with a vector of `rows` biases.

    Source
    ------
    The optimizer's record in `configs/optimizers.yaml`; GaLore: arXiv 2403.03507, table 1; Adafactor: arXiv 1804.04235.

    Examples
    --------
    A 4096 by 11008 matrix in 16 bits: AdamW, 8-bit AdamW, GaLore of rank 1024 and Adafactor, in bytes per parameter.

    >>> from calc.specs.optimizer import optimizer_named
    >>> from calc.specs.recipe import recipe_named
    >>> names = ("adamw", "adamw-8bit", "galore-rank1024", "adafactor")
    >>> [round(optimizer_state_bytes(optimizer_named(name), recipe_named("pure"), "linear", 11008, 4096)
    ...        / (11008 * 4096), 3) for name in names]
    [4.0, 2.031, 1.186, 0.001]
    """
    total = _tensor_bytes(optimizer, recipe, role, rows, columns)
    if bias:
        total = total + _tensor_bytes(optimizer, recipe, "vector", rows, 1)
    return copies * total


def _tensor_bytes(optimizer: Optimizer, recipe: Recipe, role: str, rows: Number, columns: Number) -> Number:
    """States of one tensor."""
    total: Number = 0
    for state in optimizer.states_of(role):
        width: Number = state.width(recipe)
        if state.small:
            width = where(rows * columns < state.small, 4, width)
        total = total + _numbers(state, optimizer.rank or 1, role, rows, columns) * width
    return total


def _numbers(state: State, rank: int, role: str, rows: Number, columns: Number) -> Number:
    """Numbers of one state of one tensor."""
    if state.shape == "full" or role in VECTORS:
        return rows * columns
    if state.shape == "factored":
        return rows + columns
    if state.shape == "rows":
        return rows
    shorter = minimum(rows, columns)
    return minimum(rank, shorter) * (maximum(rows, columns) if state.shape == "low_rank" else shorter)


def gathered_bytes(unit_elements: Number, element_bytes: Number, prefetch: Number) -> Number:
    """Weights that ZeRO-3 or FSDP has gathered: the unit that computes and those fetched ahead.

    Equation
    --------
    bytes = unit_elements * element_bytes * (1 + prefetch)

    Parameters
    ----------
    unit_elements : Number
        Parameters of one unit (a transformer block) on the device's tensor share [1].
    element_bytes : Number
        Bytes per gathered element [byte].
    prefetch : Number
        Units fetched ahead of the one that computes [1].

    Source
    ------
    Zhao et al. 2023 (PyTorch FSDP), arXiv 2304.11277, section 3.3.2 (prefetching).

    Examples
    --------
    A block of Llama-3-70B in bf16 with the next one: 3.4 GB.

    >>> round(gathered_bytes(855_654_400, 2, 1) / 1e9, 1)
    3.4
    """
    return unit_elements * element_bytes * (1 + prefetch)


def unit_gradient_bytes(unit_elements: Number, element_bytes: Number, units: Number) -> Number:
    """Whole gradients of the units that backward is at, before they are reduced to shards.

    Equation
    --------
    bytes = unit_elements * element_bytes * units

    Parameters
    ----------
    unit_elements : Number
        Parameters of one unit on the device's tensor share [1].
    element_bytes : Number
        Bytes per element of the gradient as it is reduced [byte].
    units : Number
        Units whose gradients are alive at once: the one that computes, and any still being reduced [1].

    Source
    ------
    Zhao et al. 2023 (PyTorch FSDP), arXiv 2304.11277, section 3 (reduce-scatter after each unit's backward).
    """
    return unit_elements * element_bytes * units


def accumulation_bytes(elements: Number, element_bytes: Number, ranks: Number) -> Number:
    """A wider buffer that the gradients of several micro-batches are added up in.

    Equation
    --------
    bytes = elements * element_bytes / ranks

    Parameters
    ----------
    elements : Number
        Trained parameters on the device [1].
    element_bytes : Number
        Bytes per element of the buffer, 4 for fp32 [byte].
    ranks : Number
        Devices that it is sharded over: 1 under ZeRO-1, the group's under ZeRO-2 and 3 [1].

    Source
    ------
    Llama 3, arXiv 2407.21783, section 3.3.2 (fp32 accumulation and reduce-scatter).
    """
    return elements * element_bytes / ranks


def secondary_copy_bytes(elements: Number, element_bytes: Number, group: Number) -> Number:
    """ZeRO++'s second copy of the weights, sharded inside a node only (hpZ).

    Equation
    --------
    bytes = elements * element_bytes / group

    Parameters
    ----------
    elements : Number
        Parameters on the device before ZeRO's sharding [1].
    element_bytes : Number
        Bytes per element of the copy: 2, or 1 where weights are quantized for the wire and kept so [byte].
    group : Number
        Devices that share the copy: those of a node [1].

    Source
    ------
    Wang et al. 2023 (ZeRO++), arXiv 2306.10209, section 3.2.
    """
    return elements * element_bytes / group


def fused_backward_bytes(largest_elements: Number, element_bytes: Number) -> Number:
    """Gradients alive where each weight is updated as soon as its gradient is there.

    Equation
    --------
    bytes = largest_elements * element_bytes

    Parameters
    ----------
    largest_elements : Number
        Elements of the largest trained tensor on the device [1].
    element_bytes : Number
        Bytes of gradient per element [byte].

    Source
    ------
    Lv et al. 2023 (LOMO), arXiv 2306.09782, section 3.1.

    Examples
    --------
    Llama-7B's weights and its largest gradient: 13.7 GB, which a 24 GB card holds.

    >>> round((2 * 6_738_415_616 + fused_backward_bytes(32000 * 4096, 2)) / 1e9, 1)
    13.7
    """
    return largest_elements * element_bytes


def foreach_temporary_bytes(elements: Number, element_bytes: Number, copies: Number, ranks: Number) -> Number:
    """Temporaries of an optimizer step that handles all tensors at once.

    Equation
    --------
    bytes = copies * elements * element_bytes / ranks

    Parameters
    ----------
    elements : Number
        Trained parameters on the device before ZeRO's sharding [1].
    element_bytes : Number
        Bytes per element of what is updated [byte].
    copies : Number
        Lists of that size alive at once, by the optimizer's record [1].
    ranks : Number
        Devices that the optimizer is sharded over [1].

    Source
    ------
    torch.optim.adamw, _multi_tensor_adamw: the square roots of all second moments are one list; measured with
    torch 2.13: weights + gradients + 3 x the trained bytes.

    Examples
    --------
    GPT-2 in pure bf16: 5 x the weights' bytes in all.

    >>> (4 * 2 * 124_439_808 + foreach_temporary_bytes(124_439_808, 2, 1, 1)) / (2 * 124_439_808)
    5.0
    """
    return copies * elements * element_bytes / ranks


def step_temporary_bytes(optimizer: Optimizer, recipe: Recipe, implementation: str, elements: Number, largest: Number,
                         ranks: Number) -> Number:  # fmt: skip
    """What an optimizer's step allocates for its own length, beside the states.

    Equation
    --------
    bytes = foreach copies * elements * updated / ranks (foreach); largest copies * largest * updated (for-loop);
    0 (fused)

    Parameters
    ----------
    optimizer : Optimizer
        Its own implementation, where it has one only, stands in place of the software's.
    recipe : Recipe
        Says how wide what is updated is.
    implementation : str
        foreach, fused or for-loop: the software's.
    elements : Number
        Trained parameters on the device before ZeRO's sharding [1].
    largest : Number
        Elements of its largest trained tensor [1].
    ranks : Number
        Devices that the optimizer is sharded over [1].

    Source
    ------
    torch.optim.adamw; measured with torch 2.13: foreach 3, for-loop 2.06, fused 2 x the trained bytes beside weights
    and gradients.
    """
    chosen = optimizer.implementation or implementation
    if chosen == "foreach" and optimizer.foreach_temporaries:
        return foreach_temporary_bytes(elements, recipe.updated_bytes, optimizer.foreach_temporaries, ranks)
    if chosen == "fused":
        return 0 * elements
    return minimum(optimizer.largest_temporaries * largest, elements / ranks) * recipe.updated_bytes


def upcast_bytes(elements: Number, gradient_bytes: Number, master_bytes: Number, ranks: Number) -> Number:
    """A device's part of the gradients, widened for the step where the master is wider than they are.

    Equation
    --------
    bytes = elements * master_bytes / ranks where gradient_bytes < master_bytes, else 0

    Parameters
    ----------
    elements : Number
        Trained parameters on the device before ZeRO's sharding [1].
    gradient_bytes, master_bytes : Number
        Bytes per element of the kept gradients and of the master [byte].
    ranks : Number
        Devices that the optimizer is sharded over [1].

    Source
    ------
    DeepSpeed runtime/zero/stage_1_and_2.py, step(): the flattened partition is cast to the master's type.
    """
    return where(gradient_bytes < master_bytes, elements * master_bytes / ranks, 0 * elements)


def step_traffic_bytes(optimizer: Optimizer, recipe: Recipe, role: str, elements: Number, implementation: str,
                       states: Number | None = None) -> Number:  # fmt: skip
    """Bytes that an optimizer's step reads and writes on one device.

    Equation
    --------
    bytes = elements * (gradient + 2 * updated + weight where there is a master) + 2 * states (one kernel)
    bytes = elements * (accesses * updated + weight where there is a master) (a kernel for each operation)

    Parameters
    ----------
    optimizer : Optimizer
    recipe : Recipe
    role : str
        Role of the weights.
    elements : Number
        Trained parameters that this device updates, after sharding [1].
    implementation : str
        foreach, fused or for-loop: the software's.
    states : Number, optional
        Bytes of their states, without the master; else those of the full-size states, beside which factors and
        low-rank moments are small [byte].

    Source
    ------
    Each value once in and once out; accesses counted in torch.optim.adamw, _multi_tensor_adamw.

    Examples
    --------
    Fused AdamW on an fp32 master with 16-bit gradients: 28 bytes per parameter; torch's foreach moves 82.

    >>> from calc.specs.optimizer import optimizer_named
    >>> from calc.specs.recipe import recipe_named
    >>> step = optimizer_named("adamw"), recipe_named("mixed"), "linear", 1
    >>> step_traffic_bytes(*step, "fused"), step_traffic_bytes(*step, "foreach")
    (28.0, 82.0)
    """
    written = recipe.weight_bytes if recipe.master_bytes else 0
    chosen = optimizer.implementation or implementation
    if chosen != "fused" and optimizer.foreach_accesses:
        return elements * (optimizer.foreach_accesses * recipe.updated_bytes + written)
    if states is None:
        full = (state.width(recipe) for state in optimizer.states_of(role) if state.shape == "full")
        states = elements * sum(full)
    return elements * (recipe.gradient_bytes + 2 * recipe.updated_bytes + written) + 2 * states


def newton_schulz_flops(rows: Number, columns: Number, iterations: Number) -> Number:
    """Operations that Muon orthogonalizes one matrix with.

    Equation
    --------
    flops = iterations * (4 * shorter^2 * longer + 2 * shorter^3)

    Parameters
    ----------
    rows, columns : Number
        Size of the whole matrix [1].
    iterations : Number
        Newton-Schulz iterations, 5 as published [1].

    Source
    ------
    KellerJordan/Muon muon.py: per iteration A = X X^T, A A and (b A + c A A) X.

    Examples
    --------
    A 4096 by 4096 matrix: 2.1 TFLOP.

    >>> round(newton_schulz_flops(4096, 4096, 5) / 1e12, 1)
    2.1
    """
    shorter, longer = minimum(rows, columns), maximum(rows, columns)
    return iterations * (4 * shorter * shorter * longer + 2 * shorter * shorter * shorter)


def step_flops(optimizer: Optimizer, role: str, rows: Number, columns: Number, copies: Number = 1) -> Number:
    """Operations of one step on some equal tensors, unsharded.

    Equation
    --------
    flops = copies * (per element * rows * columns + Newton-Schulz + 2 * projections * rank * rows * columns)

    Parameters
    ----------
    optimizer : Optimizer
    role : str
        Role of the weight; matrix products are for the roles that the optimizer is for.
    rows, columns : Number
        Size of one tensor [1].
    copies : Number
        Equal tensors: layers, experts [1].

    Source
    ------
    The optimizer's record in `configs/optimizers.yaml`.
    """
    per_tensor = optimizer.flops * rows * columns
    if role in optimizer.roles and role not in VECTORS:
        if optimizer.newton_schulz:
            per_tensor = per_tensor + newton_schulz_flops(rows, columns, optimizer.newton_schulz)
        if optimizer.projections and optimizer.rank:
            rank = minimum(optimizer.rank, rows, columns)
            per_tensor = per_tensor + 2 * optimizer.projections * rank * rows * columns
    return copies * per_tensor
