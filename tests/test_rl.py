"""Tuning on preferences and rewards: phases take turns, each role has what it needs in its phase, mistakes are told."""

import json

import pytest

from calc import load, scenario_file
from calc.api import load_scenario
from calc.composer import estimate
from calc.configs import configs_dir
from calc.errors import BadValueError, CalcError, LayoutError, UnknownKeyError, UnknownNameError
from calc.formulas import rl as formulas
from calc.specs.rl import ALGORITHMS, MODELS, RL, lengths
from calc.training.phases import components, phases_as_dict
from calc.training.rl_models import scored
from calc.training.rl_turns import ACTIVE, TITLES

GIB = 2**30
ONLINE = [name for name, how in ALGORITHMS.items() if how.online]
OFFLINE = [name for name, how in ALGORITHMS.items() if not how.online]
LORA = {"kind": "lora", "rank": 16}


def asked(
    algorithm, model="qwen2.5-1.5b", devices=8, software="verl", hardware="h100-sxm", training=None, parallel=None, **rl
):
    given = {"global_batch_size": 64, "micro_batch_size": 1, "sequence_length": 2048, "recompute": "full"}
    if isinstance(devices, dict):  # of roles that have their own
        rl, devices = {**rl, "devices": devices}, 8
    if algorithm in ALGORITHMS and ALGORITHMS[algorithm].online:
        rl = {"rollout": {"sequences": 64}, **rl}
    return {"task": "finetune", "model": model, "hardware": hardware, "devices": devices, "software": software,
            "training": {**given, **(training or {})}, "parallel": parallel or {},
            "rl": {"algorithm": algorithm, **rl}}  # fmt: skip


def tuned(algorithm, **given):
    return estimate(load_scenario(asked(algorithm, **given)))


def plain(**given):
    data = asked("dpo", **given)
    del data["rl"]
    return estimate(load_scenario(data))


def phase(found, name):
    return next(one for one in found.phases if one.name == name)


def peak(found):
    return float(found.memory.value)


# the peak is the largest phase


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_peak_is_the_largest_phase_and_never_the_sum(algorithm):
    found = tuned(algorithm)
    needs = [float(one.needed) for one in found.phases]
    assert peak(found) == max(needs)
    if len(needs) > 1:
        assert peak(found) < sum(needs)
    assert {one.name for one in found.phases} <= set(ACTIVE)
    for one in found.phases:
        assert sum(components(one.memory).values()) == pytest.approx(float(one.needed))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_phase_too_large_is_one_reason_not_to_fit(algorithm):
    found = tuned(algorithm, model="qwen2.5-32b", devices=1)
    assert not found.feasible
    too_large = [one for one in found.phases if one.needed > found.usable_bytes]
    said = [message for code, message in found.problems if code == "out_of_memory"]
    assert len(said) == len(too_large)
    for one, message in zip(too_large, said, strict=True):
        assert message.startswith(f"{TITLES[one.name]} needs ")


def test_phases_of_each_algorithm():
    names = {algorithm: [one.name for one in tuned(algorithm).phases] for algorithm in ALGORITHMS}
    assert names["ppo"] == list(ACTIVE)
    grpo = ["generation", "log_probs", "reference", "reward", "training"]
    assert names["grpo"] == names["rloo"] == names["reinforce"] == grpo
    assert names["dpo"] == names["kto"] == ["reference", "training"]
    assert names["orpo"] == names["simpo"] == names["reward"] == ["training"]


def test_rules_and_null_models_leave_phases_out():
    bare = tuned("grpo", reward=None, reference=None, old_log_probs=False)
    assert [one.name for one in bare.phases] == ["generation", "training"]
    assert (
        bare.time.value < tuned("grpo", reward=None, reference=None).time.value < tuned("grpo", reward=None).time.value
    )


# preferences


def test_without_tuning_there_are_no_phases():
    assert plain().phases == ()
    assert phases_as_dict(plain()) == []


def test_dpo_needs_at_least_what_supervised_tuning_of_its_sequences_does():
    supervised = plain(training={"micro_batch_size": 2, "global_batch_size": 128})
    dpo, simpo = tuned("dpo"), tuned("simpo")
    assert dpo.layout.micro_batch == 2 and dpo.layout.global_batch == 128, "a pair is two sequences"
    assert peak(dpo) > peak(supervised) == peak(simpo)
    training = phase(dpo, "training")
    assert training.models["reference"] > 0
    assert float(training.needed) == pytest.approx(peak(supervised) + training.models["reference"])
    assert dpo.time.value > simpo.time.value == pytest.approx(supervised.time.value)


def test_a_pair_takes_twice_the_activations_of_a_sample():
    one = plain(training={"recompute": "none"})
    pair = tuned("simpo", training={"recompute": "none"})
    kept = [components(found.worst)["activations"] + components(found.worst)["logits"] for found in (one, pair)]
    assert kept[1] > 1.9 * kept[0]
    assert tuned("kto").layout.micro_batch == 1, "its samples are single sequences"


def test_a_reference_by_disabling_the_adapter_costs_no_second_copy():
    adapter = {"training": {"adapter": LORA}}
    found, copied = tuned("dpo", **adapter), tuned("dpo", **adapter, reference_mode="model")
    assert all("reference" not in one.models for one in found.phases)
    assert copied.phases[0].models["reference"] > 0
    assert peak(copied) - peak(found) == pytest.approx(copied.phases[0].models["reference"])
    assert found.time.value == copied.time.value, "it passes all the same"
    assert any("adapter disabled" in note for note in found.notes)
    same = tuned("dpo", **adapter, reference_mode="adapter")
    assert peak(same) == peak(found)


def test_a_quantized_base_is_its_own_reference():
    found = tuned("dpo", devices=1, training={"adapter": LORA, "base_format": "nf4"})
    assert [one.models.keys() for one in found.phases] == [{"policy"}, {"policy"}]


def test_precomputed_log_probabilities_need_no_reference():
    found = tuned("dpo", reference_mode="precomputed")
    assert [one.name for one in found.phases] == ["training"]
    assert peak(found) == peak(tuned("simpo"))
    assert found.time.value == tuned("simpo").time.value


def test_the_reference_passes_while_the_policys_graph_is_held():
    held = components(phase(tuned("dpo", training={"recompute": "none"}), "reference").memory)["activations"]
    assert held > components(phase(tuned("dpo"), "reference").memory)["activations"]


def test_a_reference_on_the_host_comes_back_to_pass():
    here, away = tuned("dpo"), tuned("dpo", offload="reference")
    saved = phase(here, "training").needed - phase(away, "training").needed
    assert saved == pytest.approx(phase(here, "training").models["reference"])
    assert phase(away, "reference").needed == phase(here, "reference").needed
    assert away.host_bytes == pytest.approx(8 * saved)


def test_a_reward_model_ends_in_one_score():
    found, model = tuned("reward"), load.model("qwen2.5-7b")
    assert components(found.worst)["logits"] < 1e6
    assert found.layout.micro_batch == 2
    assert peak(found) < peak(tuned("simpo"))
    assert scored(model) is scored(model)
    end = scored(model).text_stacks[-1].after[-1].weights()[0]
    assert (end.inputs, end.outputs, scored(model).vocab_size) == (3584, 1, 1)


# reinforcement learning


def test_no_critic_needs_no_more_than_one():
    ppo = tuned("ppo")
    for algorithm in ("grpo", "rloo", "reinforce"):
        found = tuned(algorithm)
        assert peak(found) < peak(ppo)
        assert found.time.value < ppo.time.value
        for one in found.phases:
            assert one.needed <= phase(ppo, one.name).needed


def test_gradients_are_there_in_training_alone():
    for one in tuned("ppo").phases:
        gradients = float(one.memory.gradients.value)
        assert (gradients > 0) == (one.name in ("training", "critic_training"))
    kept = tuned("ppo", keep_gradients=True)
    assert all(one.memory.gradients.value > 0 for one in kept.phases)


def test_offloaded_states_leave_only_who_works():
    """verl pull request 284: with everything offloaded one model at a time is on the device."""
    found = tuned("ppo", offload="all")
    for one in found.phases:
        assert set(one.models) == {ACTIVE[one.name]}
    assert float(phase(found, "generation").memory.optimizer.value) == 0
    assert found.host_bytes > 0
    assert tuned("ppo").host_bytes == 0
    some = tuned("ppo", offload="optimizer")
    states = some.found.worst
    for one in some.phases:
        assert one.memory.optimizer.value < 1.01 * states.optimizer.value, "one of the two at a time"
    assert phase(some, "generation").models["policy"] == pytest.approx(states.weights.value)


def test_offloading_never_needs_more():
    for words in ("reference", "reward", "critic", "optimizer", "policy", ["reference", "reward"], "all"):
        assert peak(tuned("ppo", offload=words)) <= peak(tuned("ppo"))


def test_the_engine_is_laid_out_by_itself():
    narrow, wide = (
        tuned("grpo", rollout={"tensor": 1, "sequences": 64}),
        tuned("grpo", rollout={"tensor": 4, "sequences": 64}),
    )
    one, four = (phase(found, "generation").models["rollout"] for found in (narrow, wide))
    assert 3.5 < one / four < 4.1
    assert phase(narrow, "training").models == phase(wide, "training").models


def test_sequences_at_once_fill_the_cache():
    few, many = (components(phase(tuned("grpo", rollout={"sequences": n}), "generation").memory)["kv_cache"]
                 for n in (64, 128))  # fmt: skip
    assert many == 2 * few
    half = components(phase(tuned("grpo", rollout={"sequences": 64, "kv_format": "fp8"}), "generation").memory)
    assert half["kv_cache"] == few / 2


def test_a_share_of_the_device_is_taken_whole():
    found = tuned("grpo", rollout={"memory_utilization": 0.5}, reference=None, reward=None, offload="all")
    generation = phase(found, "generation")
    total = found.scenario.total_bytes
    assert 0.5 * total <= generation.needed < 0.5 * total + 2 * GIB, "training's communication stays open beside it"
    crowd = tuned("grpo", rollout={"memory_utilization": 0.5, "sequences": 8192})
    assert any("rest wait" in note for note in crowd.notes)
    small = tuned("grpo", model="qwen2.5-7b", rollout={"memory_utilization": 0.15})
    assert not small.feasible
    assert any("no room for a response" in message for _, message in small.problems)


def test_an_engine_that_sleeps_gives_its_memory_back():
    awake = tuned("grpo", rollout={"sleep": False, "memory_utilization": 0.4})
    asleep = tuned("grpo", rollout={"memory_utilization": 0.4})
    assert phase(awake, "generation").needed == phase(asleep, "generation").needed
    more = phase(awake, "training").needed - phase(asleep, "training").needed
    assert more > 0.3 * awake.scenario.total_bytes


def test_shared_weights_are_held_once():
    copied = tuned("grpo", parallel={"sharding": "none"})
    shared = tuned("grpo", parallel={"sharding": "none"}, rollout={"sequences": 64, "shared": True})
    saved = phase(copied, "generation").needed - phase(shared, "generation").needed
    assert saved == pytest.approx(phase(copied, "training").memory.weights.terms[0].value)


def test_roles_apart_free_the_policys_devices():
    here = tuned("ppo")
    apart = tuned("ppo", devices={"rollout": 4, "reference": 2, "reward": 2, "critic": 8})
    assert {one.name: one.place for one in apart.phases} == {
        "generation": "rollout", "log_probs": "policy", "reference": "reference", "reward": "reward",
        "values": "critic", "training": "policy", "critic_training": "critic"}  # fmt: skip
    assert phase(apart, "generation").devices == 4
    for one in apart.phases:
        assert set(one.models) == {ACTIVE[one.name]}, "nobody else is there"
        assert one.devices != 8 or one.needed < phase(here, one.name).needed
    assert apart.time.value < here.time.value, "they work beside the policy"
    assert any("devices beside" in note for note in apart.notes)
    half = tuned("ppo", devices={"rollout": 4})
    assert set(phase(half, "training").models) == {"policy", "reference", "reward", "critic"}


def test_another_model_takes_the_place_of_one_of_the_policys_size():
    own, small = tuned("ppo", model="qwen2.5-7b"), tuned("ppo", model="qwen2.5-7b", reward="qwen2.5-0.5b",
                                                           critic="qwen2.5-0.5b")  # fmt: skip
    assert phase(small, "reward").models["reward"] < phase(own, "reward").models["reward"] / 10
    assert phase(small, "critic_training").needed < phase(own, "critic_training").needed
    assert small.time.value < own.time.value
    inline = tuned(
        "ppo",
        critic={
            "model_type": "llama",
            "hidden_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "intermediate_size": 1024,
            "vocab_size": 32000,
        },
    )
    assert phase(inline, "values").models["critic"] < phase(small, "values").models["critic"]


def test_every_pass_is_in_the_time_once():
    """Forward passes of policy, reference and reward model cost what a forward pass of training does."""
    found = tuned("grpo", old_log_probs=False, reward=None)
    step = found.found.step
    parts = step.components()
    once = sum(parts.values()) and step.slowest.forward / step.slowest.compute * parts["compute"]
    names = {term.name: term.value for term in found.time.terms}
    assert names["time.scoring"] == pytest.approx(once)
    both = {term.name: term.value for term in tuned("grpo", reward=None).time.terms}
    assert both["time.scoring"] == pytest.approx(2 * once)
    again = {term.name: term.value for term in tuned("grpo", reward=None, updates=4).time.terms}
    assert again["time.scoring"] == pytest.approx(once / 2)
    assert "time.critic" not in both
    assert any("generation is not in it" in note for note in found.notes)


def test_pipeline_stages_hold_their_own_part_of_every_model():
    found = tuned("ppo", model="qwen2.5-7b", parallel={"pipeline": 2, "tensor": 2}, software="megatron-lm")
    whole = tuned("ppo", model="qwen2.5-7b", parallel={"tensor": 2}, software="megatron-lm")
    ours, theirs = (phase(one, "reference").models["reference"] for one in (found, whole))
    assert ours < 0.6 * theirs


def test_experts_are_shared_as_in_training():
    found = tuned("grpo", model="qwen3-30b-a3b", parallel={"expert": 8, "sharding": "zero1"},
                  rollout={"tensor": 4, "sequences": 64})  # fmt: skip
    reference, policy = (phase(found, "reference").models[name] for name in ("reference", "policy"))
    assert reference < policy
    assert found.layout.expert == 8


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_suggestions_are_estimated_with_all_phases(algorithm):
    found = tuned(algorithm, model="qwen2.5-32b", devices=8, training={"recompute": "none"})
    for one in found.advice:
        assert one.fits or not found.feasible
    if algorithm == "ppo":
        assert not found.feasible
        assert any("rl.offload" in one.change for one in found.advice)


# scenario files


def test_the_example_says_what_it_does():
    path = configs_dir() / "scenarios" / "grpo-7b-on-8-h100.yaml"
    (document,) = scenario_file.documents(path)
    scenario = scenario_file.scenario_from(document)
    assert scenario.tuning.rl.algorithm == "grpo"
    assert scenario.training.sequence_length == 4096
    found = estimate(scenario)
    assert found.feasible
    listed = phases_as_dict(found)
    assert json.loads(json.dumps(listed)) == listed
    for entry in listed:
        assert {"phase", "devices", "per_device_bytes", "components"} <= set(entry)
        assert entry["per_device_bytes"] == sum(entry["components"].values())
    assert max(entry["per_device_bytes"] for entry in listed) == pytest.approx(peak(found), abs=10)


def test_every_key_is_read(tmp_path):
    rl = {
        "algorithm": "ppo", "reference": "policy", "reward": "qwen2.5-0.5b", "critic": "qwen2.5-0.5b",
        "reference_mode": "model", "colocated": False,
        "devices": {"rollout": 4, "reference": 8, "reward": 2, "critic": 4},
        "offload": ["policy", "optimizer"], "keep_gradients": True, "group_size": 4, "prompt_length": "1k",
        "response_length": "1k", "mini_batches": 2, "updates": 3, "old_log_probs": False, "scoring_batch_size": 4,
        "frozen_format": "fp8",
        "rollout": {"software": "sglang", "tensor": 2, "memory_utilization": "50%", "sequences": 32,
                    "weight_format": "fp8", "kv_format": "fp8", "shared": False, "sleep": False},
    }  # fmt: skip
    path = tmp_path / "ppo.yaml"
    path.write_text(json.dumps({**asked("ppo"), "rl": rl}), encoding="utf-8")
    found = load_scenario(path).tuning
    assert set(rl) == set(RL.__dataclass_fields__)
    assert set(rl["rollout"]) == set(type(found.rl.rollout).__dataclass_fields__)
    for name, value in rl.items():
        if name not in ("rollout", "offload", "prompt_length", "response_length"):
            assert getattr(found.rl, name) == value
    assert (found.rl.prompt_length, found.rl.offload) == (1024, ("policy", "optimizer"))
    assert found.rl.rollout.memory_utilization == 0.5
    assert found.engine.name == "sglang"
    assert set(found.models) == {"reward", "critic"}
    assert estimate(load_scenario(path)).phases


def test_every_key_says_what_it_is():
    for cls in (RL, type(RL(algorithm="dpo").rollout)):
        for field in cls.__dataclass_fields__.values():
            if field.name != "rollout":
                assert field.metadata["doc"]


def test_lengths():
    assert lengths(RL(algorithm="grpo"), 4096) == (2048, 2048)
    assert lengths(RL(algorithm="grpo", response_length=1000), 4096) == (3096, 1000)
    assert load_scenario(asked("dpo", prompt_length=512, response_length=512, training={"sequence_length": 1024}))


def wrong(match, kind=BadValueError, **changes):
    algorithm = changes.pop("algorithm", "grpo")
    with pytest.raises(kind, match=match):
        tuned(algorithm, **changes)


def test_mistakes_are_told_with_what_would_work():
    wrong("rl.algorithm: unknown value 'grop'; did you mean grpo", algorithm="grop")
    wrong("scenario: rl.algorthm: unknown key", UnknownKeyError, algorithm="dpo", algorthm="dpo")
    wrong("rl.rollout.tensr: unknown key 'tensr'; did you mean tensor", UnknownKeyError, rollout={"tensr": 2})
    wrong("rl.reference: orpo has no reference model; those that have are dpo, kto, ppo, grpo", algorithm="orpo",
          reference="qwen2.5-0.5b")  # fmt: skip
    wrong("rl.critic: grpo has no critic model; those that have are ppo", critic="policy")
    wrong("rl.critic: ppo needs a critic; grpo, rloo, reinforce go without", algorithm="ppo", critic=None)
    wrong("rl.reference: dpo needs a reference; orpo, simpo go without", algorithm="dpo", reference=None)
    wrong("rl.reference_mode: simpo has no reference", algorithm="simpo", reference_mode="precomputed")
    wrong(
        "rl.reference_mode: adapter needs an adapter beside frozen weights", algorithm="dpo", reference_mode="adapter"
    )
    wrong("rl.reference_mode: adapter needs one beside frozen weights, and", algorithm="dpo", reference_mode="adapter",
          training={"adapter": {"kind": "hft"}})  # fmt: skip
    wrong("rl.reference_mode: grpo scores responses that are not in the data", reference_mode="precomputed")
    wrong("rl.group_size: dpo generates nothing; ppo, grpo, rloo and reinforce do", algorithm="dpo", group_size=8)
    wrong("rl.rollout: kto generates nothing", algorithm="kto", rollout={})
    wrong("rl.group_size: 64 responses .* no multiple of group_size 7; they could be 63 or 70", group_size=7)
    wrong("rl.prompt_length: prompt_length 1024 .* is 3072 tokens, training.sequence_length 2048", prompt_length=1024,
          response_length=2048)  # fmt: skip
    wrong("rl.response_length: 4096 tokens leave nothing of training.sequence_length 2048", response_length=4096)
    wrong("rl.colocated: true puts all models", colocated=True, devices={"rollout": 2})
    wrong("rl.colocated: false needs rl.devices", colocated=False)
    wrong("rl.devices.critic: grpo as described has no critic", devices={"critic": 2})
    wrong("rl.devices.rollout: dpo generates nothing", algorithm="dpo", devices={"rollout": 2})
    wrong("rl.devices.reference: dpo passes the reference within", algorithm="dpo", devices={"reference": 2})
    wrong("rl.rollout.shared: an engine on devices of its own", devices={"rollout": 2}, rollout={"shared": True})
    wrong("rl.rollout.tensor: 3 does not divide the engine's 8 devices; it could be", rollout={"tensor": 3})
    wrong("rl.rollout: tensor 8 does not divide the heads", LayoutError, rollout={"tensor": 8})
    wrong("rl.rollout.software: unknown engine 'vlm'; did you mean", UnknownNameError, rollout={"software": "vlm"})
    wrong("rl.rollout.weight_format: unknown", CalcError, rollout={"weight_format": "fp9"})
    wrong("rl.frozen_format: unknown", CalcError, frozen_format="fp9")
    wrong("rl.reward: unknown model 'qwen9'", UnknownNameError, reward="qwen9")
    wrong("rl.reward: expected a name, a path, a mapping, policy or null, got True", reward=True)
    wrong("rl.offload: none can't be joined with policy", offload=["none", "policy"])
    wrong("rl.devices.critic: .*global_batch_size 64 is not a multiple", LayoutError, algorithm="ppo",
          devices={"critic": 24})  # fmt: skip


def test_it_is_a_way_of_finetuning():
    with pytest.raises(BadValueError, match="rl: is for task finetune, not pretrain"):
        load_scenario({**asked("dpo"), "task": "pretrain"})
    served = load_scenario({"model": "qwen2.5-0.5b", "hardware": "h100-sxm", "rl": {"anything": 1}})
    assert served.tuning is None and any("section rl" in note for note in served.notes)
    assert load_scenario({**asked("dpo"), "rl": {}}).tuning is None


def test_models_are_roles_with_devices():
    for role in MODELS:
        assert any(how.runs(role) for how in ALGORITHMS.values())
    assert all(how.source for how in ALGORITHMS.values())


# published figures


def test_models_that_rest_take_what_verl_logs():
    """A run of verl with Qwen2.5-7B on four devices, FSDP in 32 bits, reference and reward offloaded, logged 6.585 GiB
    once the critic (7.07 B parameters) was there and 13.678 once the actor was (April 2025, recipe spin, DEBUG log:
    'After critic FSDP', 'Before building sglang rollout')."""
    found = tuned("ppo", model="qwen2.5-7b", devices=4, offload=["reference", "reward"])
    held = {term.name: term.value / GIB for term in phase(found, "log_probs").memory.weights.terms}
    assert held["memory.weights.critic"] == pytest.approx(6.585, rel=1e-3)
    assert sum(held.values()) == pytest.approx(13.678, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "devices", "logged"),
    [
        # 'Before building vllm rollout': github.com/hkust-nlp/simpleRL-reason issue 84 (eight devices)
        ("qwen2.5-7b", 8, 3.564),
        # 'Before building vllm rollout' of verl's GSM8K example on two devices, April 2025
        ("qwen2.5-0.5b", 2, 0.9205),
    ],
)
def test_a_policy_that_rests_takes_what_verl_logs(model, devices, logged):
    found = tuned("grpo", model=model, devices=devices, reward=None, reference=None, rollout={"tensor": 1})
    weights = phase(found, "log_probs").memory.weights.value / GIB
    assert weights == pytest.approx(logged, rel=0.01)


def test_logits_and_cache_of_long_grpo():
    """unsloth.ai/blog/grpo: Llama 3.1 8B, groups of 8 at 20K tokens: 78.3 GB of logits (policy and reference, 16 bits)
    and 2.5 GB of cache for one sequence."""
    assert 2 * formulas.log_probability_bytes(8 * 20480, 128256, 2, 0) / GIB == pytest.approx(78.3, rel=1e-3)
    found = tuned("grpo", model="llama-3.1-8b", devices=1, training={"sequence_length": 20480, "adapter": LORA},
                  rollout={"sequences": 1})  # fmt: skip
    cache = components(phase(found, "generation").memory)["kv_cache"]
    assert cache / GIB == pytest.approx(2.5, rel=1e-3)


OPT = ("opt-2.7b", "opt-6.7b", "opt-13b", "opt-30b")


@pytest.mark.parametrize(
    ("device", "largest"),
    [("v100-sxm2-32gb", "opt-2.7b"), ("rtx-a6000", "opt-6.7b"), ("a100-sxm-40gb", "opt-6.7b"),
     ("a100-sxm-80gb", "opt-13b")],
)  # fmt: skip
def test_largest_models_of_deepspeed_chat(device, largest):
    """DeepSpeed-Chat (arXiv 2308.01320), table 3: the largest OPT that one device trains with PPO, reward model and
    critic of 350M, LoRA, 256 + 256 tokens; the hybrid engine generates with the training weights."""
    fits = []
    for model in OPT:
        found = tuned(
            "ppo", model=model, devices=1, hardware=device, software="deepspeed", parallel={"sharding": "none"},
            training={"global_batch_size": 4, "micro_batch_size": 4, "precision": "fp16", "sequence_length": 512,
                      "adapter": {"kind": "lora", "rank": 128}},
            reference_mode="model", reward="opt-350m", critic="opt-350m",
            rollout={"software": "transformers", "shared": True},
        )  # fmt: skip
        fits += [model] if found.feasible else []
    assert fits[-1] == largest
    assert fits == list(OPT[: len(fits)])


@pytest.mark.parametrize(("model", "devices"), [("qwen2-7b", 2), ("qwen2.5-14b", 4), ("qwen2-72b", 32)])
def test_least_devices_of_verl(model, devices):
    """verl docs, perf/device_tuning.rst: GRPO of 7B on two, 14B on four and 70B on 32 H800 with everything offloaded
    are the least that were run; what is live fits."""
    tensor = 8 if devices > 8 else devices
    found = tuned("grpo", model=model, devices=devices, hardware="h800-sxm", reward=None, offload="all",
                  training={"global_batch_size": 64 * devices, "sequence_length": 1536}, prompt_length=512,
                  rollout={"tensor": tensor, "memory_utilization": 0.6})  # fmt: skip
    assert found.worst.allocated < found.usable_bytes
    assert peak(found) < 1.02 * found.usable_bytes
