"""Training frameworks: how they store, gather, reduce and overlap, beside what the plan and the recipe say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from calc.configs import records
from calc.errors import BadValueError, CalcError, unknown
from calc.specs.fields import key
from calc.specs.plan import SHARDINGS
from calc.specs.software import Assumed, Software, setting

FILE, SECTION = "software.yaml", "training"

ASSUMED = {
    "bucket_bytes": "bytes", "logits_bytes": "bytes", "fused_logits_bytes": "bytes",
    "parallel_logits_bytes": "bytes", "chunked_logits_bytes": "bytes", "context": "bytes",
    "communication": "bytes", "workspace": "bytes", "slack": "share", "overlap_data": "share",
    "overlap_gather": "share", "overlap_tensor": "share", "overlap_expert": "share", "overlap_context": "share",
    "overlap_expert_network": "share",
    "overlap_pipeline": "share", "memory_passes": "count", "matmul": "count", "step_overhead": "seconds",
    "layer_overhead": "seconds", "launch_overlap": "share", "jitter": "share", "expert_imbalance": "count",
}  # fmt: skip
"""Fields that are quantities with a range, and their dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProfile:
    """One record of the section `training` of `configs/software.yaml`.

    Mechanisms are the same for all frameworks; a profile says which it uses and sets their constants.
    """

    name: str = key("name", doc="profile it belongs to")
    # defaults of the plan and of what is stored
    sharding: str = key("name", choices=SHARDINGS, doc="ZeRO stage where the plan gives none")
    recipe: str = key("name", doc="precision recipe where the workload gives none")
    kernels: str = key("name", choices=("fused", "eager"), doc="what its kernels keep for backward")
    sequence_parallel_default: bool = key("flag", doc="whether a tensor group splits sequences if no plan says")
    optimizer_step: str = key("name", choices=("foreach", "fused", "for-loop"),
                              doc="foreach updates all tensors at once and holds a temporary of their size; fused in "
                                  "one kernel and for-loop one by one hold none")  # fmt: skip
    adapter_format: str = key(
        "name", choices=("fp32", "bf16", "fp16"), doc="format of adapter weights if none is given"
    )
    recompute_rule: str = key("name", choices=("whole", "early_stop"),
                              doc="whether a recomputed layer runs whole, or stops at the last tensor that backward "
                                  "needs (its last matrix is not multiplied again)")  # fmt: skip
    torch_activations: bool = key("flag", False, doc="whether activation functions are torch's own kernels, also where "
                                                     "transformers computes them step by step")  # fmt: skip
    recompute_saves: tuple[str, ...] = key("texts", (),
                                           doc="what `selective` keeps of a layer that it runs again: matrices "
                                               "whose products stay, `scores` for the attention's output; none: "
                                               "`selective` runs the attention scores alone again")  # fmt: skip
    # what data-parallel ranks hold and send
    reshard_after_forward: bool = key("flag", doc="whether ZeRO-3 frees gathered weights after forward and gathers "
                                                  "them again for backward")  # fmt: skip
    reduce_each_micro_batch: bool = key("flag", doc="whether ZeRO-2 and 3 reduce gradients in each micro-batch")
    gathers_each_micro_batch: bool = key("flag", doc="whether ZeRO-3 gathers weights in each micro-batch")
    gathers_by_broadcast: bool = key("flag", False, doc="whether after a step of ZeRO-1 or 2 each rank broadcasts the "
                                                        "weights that it updated, one rank after another")  # fmt: skip
    gradient_reduce_bytes: float = key("bytes", doc="bytes per gradient element on the wire")
    gather_bytes: float | None = key("bytes?", None, doc="bytes per weight element gathered; null: as computed with")
    prefetch_units: int = key("count", whole=True, doc="gathered layers alive beside the one that computes")
    gather_unit: str = key("name", "layer", choices=("layer", "matrix"),
                           doc="what ZeRO-3 gathers and reduces at once")  # fmt: skip
    live_elements: float = key("count", 0, doc="elements that ZeRO-3 leaves gathered at least: the layers last used "
                                               "and the next")  # fmt: skip
    root_gathered: bool = key("flag", True, doc="whether ZeRO-3 leaves tables and head gathered through a step, "
                                                "as what belongs to no layer")  # fmt: skip
    bucket_bytes: Assumed = key("any", doc="buckets for reducing and gathering, all together")
    accumulates_in_product: bool = key("flag", True, doc="whether the product that makes a gradient adds it to "
                                                         "the buffer; else a kernel of its own does")  # fmt: skip
    bucket_elements: float = key("count", 40e6, minimum=1, doc="parameters of a bucket that gradients are reduced in, "
                                                               "at least")  # fmt: skip
    bucket_elements_per_rank: float = key("count", 1e6, doc="the same, per data-parallel rank")
    gradients_in_backward: bool = key("flag", doc="whether gradients come to exist in backward and are freed after the "
                                                  "step; else a buffer holds them from the start")  # fmt: skip
    pipelined_whole: bool = key("flag", False, doc="whether ZeRO-3 in a pipeline keeps gathered weights and whole "
                                                   "gradients until the step")  # fmt: skip
    upcasts_gradients: bool = key("flag", False, doc="whether the step widens a device's part of the gradients to the "
                                                     "master's format, in one flat buffer")  # fmt: skip
    step_elements: float = key("count", 0, doc="elements that ZeRO-3's step widens at a time; 0: all of a device's")
    static_gradients: bool = key("flag", False, doc="whether kernels add weight gradients to the buffer themselves and "
                                                    "keep a stand-in for each shape of matrix")  # fmt: skip
    stage_tensors: int = key("count", 0, whole=True, doc="tensors of the residual stream's size that a stage keeps "
                                                         "per micro-batch under way beside activations")  # fmt: skip
    quantized_keep_inputs: bool = key("flag", False, doc="whether a product with a quantized weight keeps its "
                                                         "input, frozen or not (bitsandbytes to 0.42)")  # fmt: skip
    frozen_stay_gathered: bool = key("flag", False, doc="whether ZeRO-3 frees frozen weights only after the "
                                                        "step (FSDP 1 of torch 2.1)")  # fmt: skip
    ties_head: bool = key("flag", True, doc="whether a tied head shares its table's storage")
    keeps_logits: bool = key("flag", False, doc="whether the loop holds the model's output through the step")
    gradient_copy: bool = key("flag", doc="whether unsharded replicas hold gradients twice, in buckets too")
    accumulates_fp32: bool = key("flag", doc="whether micro-batches add up in 4-byte gradients whatever the recipe")
    vocabulary_multiple: int = key("count", whole=True, minimum=1,
                                   doc="vocabulary padded to a multiple, per tensor rank")  # fmt: skip
    # memory beside the tensors of the plan
    logits_bytes: Assumed = key("any", doc="bytes per logit at the loss's peak, logits and temporaries together")
    fused_logits_bytes: Assumed = key("any", doc="the same where the workload's loss is fused")
    parallel_logits_bytes: Assumed | None = key("any", None, doc="as logits_bytes where tensor ranks share the "
                                                                 "vocabulary; default the same")  # fmt: skip
    chunked_logits_bytes: Assumed | None = key("any", None, doc="the same where the loss is chunked but every chunk "
                                               "kept; default: chunks are differentiated one by one")  # fmt: skip
    workspace: Assumed = key("any", doc="workspaces of matrix multiplications and other kernels, inside the allocator")
    slack: Assumed = key("any", doc="reserved by the allocator beside what is allocated, as a share of it")
    context: Assumed = key("any", doc="device context and libraries, outside the allocator")
    communication: Assumed = key("any", doc="communication libraries where several devices work together")
    # time
    attention_kernel: str = key("name", choices=("flash1", "flash", "flash3", "sdpa", "cudnn"),
                                doc="fused attention kernel, where the device's record has it: FlashAttention 1, 2 "
                                    "or 3, the one inside PyTorch, or cuDNN's")  # fmt: skip
    attends_by_piece: bool = key("flag", False, doc="whether a context group's keys are attended to one rank's after "
                                                    "another's also where they were gathered")  # fmt: skip
    expert_dispatch: str = key("name", choices=("all_to_all", "once_per_node"),
                               doc="whether a token is sent to each of its experts, or once to each node that "
                                   "holds any and handed on there (DeepEP)")  # fmt: skip
    overlap_data: Assumed = key("any", doc="share of the gradient reduction that backward hides")
    overlap_gather: Assumed = key("any", doc="share of weight gathering that computation hides")
    overlap_tensor: Assumed = key("any", doc="share of the tensor group's communication that computation hides")
    overlap_expert: Assumed = key("any", doc="share of the experts' all-to-all that computation hides")
    overlap_expert_network: Assumed | None = key("any", None, doc="the same between nodes where stages are "
                                                                  "interleaved; default the same")  # fmt: skip
    overlap_context: Assumed = key("any", doc="share of the context group's communication that computation hides")
    overlap_pipeline: Assumed = key("any", doc="share of the transfers between stages that computation hides")
    memory_passes: Assumed = key("any", doc="traffic of memory-bound operators, in multiples of fused kernels' [1]")
    matmul: Assumed = key("any", doc="rate of matrix multiplications, in multiples of the device's [1]")
    launch_overlap: Assumed = key("any", doc="share of launch overhead that runs while the device computes")
    layer_overhead: Assumed = key("any", doc="the host's own time for a layer and micro-batch beside launching "
                                             "kernels: modules, hooks, casts")  # fmt: skip
    step_overhead: Assumed = key("any", doc="time of a step outside the model: data, host, logging")
    jitter: Assumed = key("any", doc="share of a step lost to stragglers, per factor e of devices")
    expert_imbalance: Assumed = key("any", doc="tokens of the busiest expert rank, in multiples of the mean [1]")
    notes: Any = key("any", None, doc="what bites")
    sources: Any = key("any", None, doc="where the constants are from")

    def changed(self, changes: Mapping[str, Any]) -> TrainingProfile:
        """The profile with some keys set otherwise, values as a record writes them."""
        return dataclasses.replace(self, **_values(changes)) if changes else self


def training_profile(software: Software) -> TrainingProfile:
    """How a framework trains: the record of its name in the section `training`, and what `software.training` changes.

    Raises
    ------
    CalcError
        The framework has no such record, or a key is not known or of another kind.
    """
    return profile_named(software.name).changed(software.training or {})


@lru_cache(maxsize=32)
def profile_named(name: str) -> TrainingProfile:
    """The training profile of a name; a record with `like` has that record's keys but for those it sets itself."""
    keys: dict[str, Any] = {}
    following: Any = name
    seen: list[str] = []
    while following is not None:
        if following not in records(FILE).names(SECTION) or following in seen:
            raise unknown("training profile", following, profile_names())
        seen.append(following)
        document = records(FILE).record(SECTION, following)
        own = dict(document.data[following])
        following = own.pop("like", None)
        try:
            keys = {**_values(own), **keys}
        except CalcError as error:
            raise error.at(document.place((seen[-1],))) from None
    missing = [field.name for field in dataclasses.fields(TrainingProfile)
               if field.name not in keys and field.name != "name" and field.default is dataclasses.MISSING]  # fmt: skip
    if missing:
        raise BadValueError(f"training profile {name} needs the keys {', '.join(missing)}", FILE)
    return TrainingProfile(name=name, **keys)


def profile_names() -> list[str]:
    """Names of all training profiles, as the file orders them."""
    return list(records(FILE).names(SECTION))


def _values(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a record as fields take them."""
    fields = {field.name: field for field in dataclasses.fields(TrainingProfile)}
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name not in fields or name == "name":
            raise unknown("key", name, [known for known in fields if known != "name"])
        values[name] = setting(name, value, ASSUMED.get(name), fields[name].metadata)
    return values


__all__ = ["ASSUMED", "TrainingProfile", "profile_named", "profile_names", "training_profile"]
