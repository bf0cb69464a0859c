"""Time of a training step: one code for numbers and arrays, bounds, and what must never get worse."""

import random
from dataclasses import replace

import numpy
import pytest

from calc import scenario_file
from calc.documents import Document
from calc.formulas import collectives
from calc.formulas.exposed import exposed
from calc.specs.plan import Layout
from calc.training.plan import decide
from calc.training.step import step_time


def plan_of(model="llama-3.1-70b", hardware="h100-sxm", devices=64, software="megatron-lm", training=None,
            parallel=None, cluster=None):  # fmt: skip
    scenario = {"schema": 1, "task": "pretrain", "model": model, "hardware": hardware, "devices": devices,
                "software": software, "parallel": {"sharding": "zero1", **(parallel or {})},
                "training": {"sequence_length": 4096, "global_batch_size": 512, **(training or {})}}  # fmt: skip
    if cluster is not None:
        scenario["cluster"] = cluster
    return decide(scenario_file.scenario_from(Document(scenario, "test")))[0]


def seconds(plan):
    return sum(step_time(plan).components().values())


def rate(plan):
    """Tokens per second and device."""
    return plan.layout.global_batch * plan.training.sequence_length / plan.layout.devices / seconds(plan)


def layouts(experts, count=50):
    """Random plans over powers of two; virtual chunks divide what a stage holds."""
    draw = random.Random(7)
    found = []
    while len(found) < count:
        tensor, pipeline, context = 2 ** draw.randrange(4), 2 ** draw.randrange(4), 2 ** draw.randrange(2)
        data, micro = 2 ** draw.randrange(5), 2 ** draw.randrange(3)
        expert = 2 ** draw.randrange(4) if experts else 1
        if data * tensor * context % expert:
            continue
        found.append(Layout(data=data, tensor=tensor, pipeline=pipeline, context=context, expert=expert,
                            virtual=2 ** draw.randrange(2) if pipeline > 1 else 1, micro_batch=micro,
                            global_batch=data * micro * 2 ** draw.randrange(3, 6)))  # fmt: skip
    return found


PLANS = {
    "dense": plan_of(parallel={"schedule": "interleaved", "pipeline": 2, "virtual_pipeline": 2}),
    "dense, all run again": plan_of(training={"recompute": ["full"]}),
    "dense, unfused attention": plan_of(hardware="a100-sxm-80gb", training={"attention": "unfused"}),
    "fsdp, selective": plan_of(software="torchtitan", training={"recompute": ["selective"]},
                               parallel={"sharding": "zero3", "context_kind": "all_gather"}),
    "experts": plan_of("mixtral-8x7b", parallel={"expert": 8}, training={"precision": "fp8"}),
    "experts, sent once to each node": plan_of("deepseek-v3", software="nemo", devices=256,
                                               training={"recompute": ["mla_up_proj", "moe"]}, parallel={"expert": 64}),
    "two kinds of layers": plan_of("gpt-oss-120b", parallel={"expert": 8}, training={"recompute": ["core_attn"]}),
    "broadcasts": plan_of("llama-2-7b", software="internevo", hardware="a100-sxm-80gb"),
    "ZeRO++": plan_of("llama-2-7b", software="deepspeed", parallel={"sharding": "zero3",
                                                                    "zeropp": ["hpz", "qwz", "qgz"]}),
    "experts, both ways": plan_of("deepseek-v3", hardware="h800-sxm", devices=256, training={"recipe": "deepseek-v3"},
                                  parallel={"expert": 64, "pipeline": 4, "schedule": "dualpipe"}),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_scalar_equals_array(name):
    plan = PLANS[name]
    if plan.parts.profile.sharding != "zero3" and name.startswith("dense"):
        plan = replace(plan, schedule="interleaved")
    drawn = layouts("expert" in name)
    scalars = [step_time(replace(plan, layout=layout)).components() for layout in drawn]
    fields = ("data", "tensor", "pipeline", "context", "expert", "virtual", "micro_batch", "global_batch")
    many = Layout(**{field: numpy.array([float(getattr(layout, field)) for layout in drawn]) for field in fields})
    arrays = step_time(replace(plan, layout=many)).components()
    for key, values in arrays.items():
        expected = [float(scalar[key]) for scalar in scalars]
        assert numpy.broadcast_to(values, len(drawn)).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12), key


@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("communication, window", [(0.0, 1.0), (1.0, 0.0), (2.0, 3.0), (3.0, 2.0), (1.0, 1.0)])
def test_neither_faster_than_one_nor_slower_than_both(communication, window, overlap):
    step = window + exposed(communication, window, overlap)
    assert max(communication, window) <= step + 1e-12
    assert step <= communication + window + 1e-12


@pytest.mark.parametrize("name", PLANS)
def test_components_are_between_the_parts_and_their_sum(name):
    for layout in layouts("expert" in name, 20):
        step = step_time(replace(PLANS[name], layout=layout))
        parts, slowest, batches = step.components(), step.slowest, layout.micro_batches
        assert all(value >= 0 for value in parts.values())
        for kind, key in (("tensor", "tensor_comm"), ("expert", "expert_comm"), ("context", "context_comm")):
            alone = batches * getattr(slowest, kind)
            assert max(alone, parts["compute"]) <= parts["compute"] + parts[key] + 1e-9
            assert parts[key] <= alone + 1e-9


def test_recomputation_costs():
    times = [seconds(plan_of(training={"recompute": [mode]})) for mode in ("none", "selective", "full")]
    assert times == sorted(times)
    assert times[2] / times[0] == pytest.approx(1.3, abs=0.06), "a fourth forward pass beside three"


def test_torchtitan_keeps_every_second_product():
    """Its selective recomputation by operator runs a good part of the layer again, the full kind all of it."""
    none, selective, full = (seconds(plan_of(software="torchtitan", training={"recompute": [mode]},
                                             parallel={"sharding": "zero3"}))
                             for mode in ("none", "selective", "full"))  # fmt: skip
    assert 1.04 < selective / none < 1.2 < full / none < 1.4


def test_more_devices_never_do_more_each():
    """At a fixed global batch a device's share of the work falls, and what it does per second with it."""
    plans = [plan_of(devices=devices, parallel={"tensor": 4, "pipeline": 2}) for devices in (64, 128, 256, 512, 1024)]
    rates = [rate(plan) for plan in plans]
    assert rates == sorted(rates, reverse=True)
    steps = [seconds(plan) for plan in plans]
    assert steps == sorted(steps, reverse=True), "and the step still gets shorter"


def test_tensor_groups_across_nodes_are_slow():
    inside, across = (rate(plan_of(parallel={"tensor": tensor})) for tensor in (8, 16))
    assert across < 0.8 * inside


def test_small_micro_batches_expose_the_gathers_of_sharded_weights():
    """FSDP over nodes: each pass gathers all weights, so that a short pass waits for the network."""
    rates = [rate(plan_of("llama-3.1-70b", hardware="a100-sxm-80gb", software="llm-foundry", devices=128,
                          training={"sequence_length": 2048, "global_batch_size": 1024, "micro_batch_size": size,
                                    "recompute": ["full"]}, parallel={"sharding": "zero3"}))
             for size in (1, 2, 4, 8)]  # fmt: skip
    assert rates == sorted(rates)
    assert rates[0] < 0.85 * rates[-1]


@pytest.mark.parametrize(
    ("sharding", "batches", "changes", "volume"),
    [("none", 1, {}, 2), ("zero1", 1, {}, 2), ("zero2", 1, {}, 2), ("zero3", 1, {}, 3), ("zero1", 16, {}, 2),
     ("zero3", 16, {"reduce_each_micro_batch": False}, 33), ("zero3", 16, {}, 48),
     ("zero3", 1, {"reshard_after_forward": False}, 2)],
)  # fmt: skip
def test_data_parallel_volumes(sharding, batches, changes, volume):
    """Sent per step in units of the parameters: 2, and 3 of ZeRO-3, 1.5 times as much (Rajbhandari et al. 2020, arXiv
    1910.02054, section 7); Llama 3 keeps gathered weights between forward and backward."""
    plan = plan_of("llama-2-7b", software="fsdp", parallel={"sharding": sharding},
                   training={"global_batch_size": 64 * batches})  # fmt: skip
    plain = {"link_latency": 0, "network_latency": 0, "in_network": 0}
    profile = plan.parts.profile.changed({"overlap_data": 0, "overlap_gather": 0, "gradient_reduce_bytes": 2,
                                          "gather_bytes": 2, **changes})  # fmt: skip
    parts = replace(plan.parts, profile=profile, efficiency=replace(plan.parts.efficiency, **plain))
    step = step_time(replace(plan, parts=parts))
    once = collectives.all_gather(2 * 6_738_415_616, step.operators.exchanges.groups.data)
    assert step.components()["data_comm"] / once == pytest.approx(volume, rel=1e-6)


def test_compressed_shards_travel_faster():
    """ZeRO++ (arXiv 2306.10209): weights in 8 bits, gathered inside the node backward, gradients in 4 bits."""
    plans = [plan_of("llama-2-7b", software="deepspeed", devices=128, hardware="a100-sxm-80gb",
                     cluster={"nic_per_device": "25 Gb/s"}, parallel={"sharding": "zero3", "zeropp": options},
                     training={"global_batch_size": 128, "sequence_length": 512})
             for options in ([], ["qwz"], ["hpz"], ["qgz"], ["qwz", "hpz", "qgz"])]  # fmt: skip
    none, *single, all_three = (step_time(plan).components()["data_comm"] for plan in plans)
    assert all(all_three < one < none for one in single)
    assert 2.5 < none / all_three < 5, "the paper's traffic is four times less"


def test_both_ways_hide_the_experts_exchanges():
    """DualPipe (arXiv 2412.19437, section 3.2.1) runs each direction's all-to-all behind the other's computation, and a
    device holds the first and the last stage, so that the head holds none up."""
    plain, both = (step_time(plan_of("deepseek-v3", hardware="h800-sxm", devices=256, training={"precision": "fp8"},
                                     parallel={"expert": 64, "pipeline": 4, "schedule": schedule}))
                   for schedule in ("1f1b", "dualpipe"))  # fmt: skip
    assert both.slowest.compute < plain.slowest.compute
    assert both.slowest.expert == pytest.approx(plain.slowest.expert, rel=0.1)
    assert both.components()["expert_comm"] < 0.5 * plain.components()["expert_comm"]


def test_experts_get_tokens_in_eight_bits():
    half, narrow = (step_time(plan_of("deepseek-v3", hardware="h800-sxm", devices=256, parallel={"expert": 64},
                                      training={"precision": "fp8", "recipe": recipe})).kinds[-1].expert
                    for recipe in ("mixed", "deepseek-v3"))  # fmt: skip
    assert narrow == pytest.approx(0.75 * half, rel=0.02), "dispatched in 8 bits, combined in 16"


def test_interleaved_stages_hide_exchanges_between_nodes():
    """Megatron-LM's overlap of one micro-batch's all-to-all with another's computation needs interleaved stages."""
    plans = [plan_of("deepseek-v3", software="nemo", devices=512, training={"precision": "fp8"},
                     parallel={"expert": 64, "pipeline": 4, "virtual_pipeline": chunks, "uneven": True,
                               "schedule": "interleaved" if chunks > 1 else "1f1b"}) for chunks in (1, 4)]  # fmt: skip
    plain, interleaved = (step_time(plan).hidden["expert"] for plan in plans)
    assert plain == plans[0].parts.profile.overlap_expert.value
    assert interleaved == plans[1].parts.profile.overlap_expert_network.value > plain


def test_rings_attend_piece_by_piece():
    """A ring starts a kernel for each rank's keys, and merges what they give."""
    seconds = [step_time(plan_of(training={"sequence_length": 32768, "global_batch_size": 64},
                                 parallel={"context": 8, "context_kind": kind})).kinds[0].attention
               for kind in ("all_gather", "ring")]  # fmt: skip
    assert seconds[0] < seconds[1] < 1.5 * seconds[0]


def test_overhead_is_made_of_its_parts():
    step = step_time(plan_of(software="transformers", devices=8, model="llama-3.2-1b", parallel={"sharding": "zero2"},
                             training={"sequence_length": 512, "global_batch_size": 64}))  # fmt: skip
    assert set(step.overheads()) == {"stragglers", "launches", "step"}
    assert sum(step.overheads().values()) == pytest.approx(step.components()["overhead"])
    assert step.overheads()["launches"] > 0


def test_kinds_of_work_sum_to_the_computation():
    for name in PLANS:
        slowest = step_time(PLANS[name]).slowest
        parts = slowest.matmul + slowest.attention + slowest.memory + slowest.recomputed
        assert parts == pytest.approx(slowest.compute), name


def test_narrow_formats_are_faster():
    rates = [rate(plan_of(hardware="gb200", devices=72, software="nemo", parallel={"tensor": 2},
                          training={"precision": precision, "global_batch_size": 720}))
             for precision in ("bf16", "mxfp8", "nvfp4")]  # fmt: skip
    assert rates == sorted(rates)
    assert rates[2] < 3 * rates[0], "attention, head and casts don't get faster"


def test_a_token_is_sent_once_to_each_node():
    """DeepSeek-V3 over 8 nodes: eight experts of a token lie on 5.3 of them."""
    training, parallel = {"precision": "fp8", "global_batch_size": 2048}, {"expert": 64}
    once, each = (step_time(plan_of("deepseek-v3", devices=64, software=software, training=training, parallel=parallel))
                  for software in ("nemo", "megatron-lm"))  # fmt: skip
    assert once.kinds[-1].expert < 0.85 * each.kinds[-1].expert


def test_small_kernels_wait_for_the_host():
    """A tiny model's layer is launched no faster than the host can."""
    plan = plan_of("llama-3.2-1b", devices=1, software="transformers", training={"sequence_length": 128,
                   "global_batch_size": 8}, parallel={"sharding": "none"})  # fmt: skip
    parts = step_time(plan).components()
    host = plan.scenario.model.num_layers * plan.parts.profile.layer_overhead.value * plan.layout.micro_batches
    assert sum(parts.values()) >= host > parts["compute"]


def test_interleaving_shortens_the_wait():
    waits = [step_time(plan_of(devices=64, parallel={"tensor": 2, "pipeline": 8, "virtual_pipeline": chunks})
                       ).components()["pipeline_bubble"] for chunks in (1, 2, 5)]  # fmt: skip
    assert waits[1] == pytest.approx(waits[0] / 2, rel=0.01)
    assert waits[2] == pytest.approx(waits[0] / 5, rel=0.01)


def test_measured_generations_have_a_range_of_their_own():
    known, unknown = (plan_of(hardware=name).parts.efficiency for name in ("a100-sxm-80gb", "rtx-4090"))
    low, high = known.time_range
    assert 0.7 < low <= 1 <= high < 1.3
    assert unknown.time_range == (0.6, 1.6)
