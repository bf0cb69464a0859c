"""Preference tuning and reinforcement learning: the `rl` section of a scenario, and what each algorithm runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from calc.specs.fields import entry, key
from calc.xp import Number

POLICY = "policy"
"""In place of a model: one of the policy's own size."""
MODELS = ("reference", "reward", "critic")
"""Models beside the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What one algorithm trains and runs; passes are forward-only, per sequence trained on."""

    title: str
    online: bool = False
    """Whether the policy generates the responses that it is trained on."""
    sequences: int = 1
    """Sequences of one sample, all of which are trained on: 2 for a pair of chosen and rejected."""
    reference: int = 0
    """Passes through the reference; 0 where there is none."""
    policy: int = 0
    """Passes through the policy itself."""
    reward: int = 0
    """Passes through the reward model."""
    critic: int = 0
    """Passes through the critic, which is then trained on the same sequences."""
    scores: bool = False
    """Whether what is trained ends in one score in place of a vocabulary."""
    source: str = ""

    def runs(self, role: str) -> int:
        """Passes through a model beside the policy."""
        return int(getattr(self, role))


ALGORITHMS = {
    "dpo": Algorithm(title="DPO", sequences=2, reference=1, source="Rafailov et al. 2023, arXiv 2305.18290"),
    "kto": Algorithm(title="KTO", reference=2, policy=1,
                     source="Ethayarajh et al. 2024, arXiv 2402.01306; a mismatched completion passes policy and "
                            "reference for the KL term (TRL's KTO trainer)"),
    "orpo": Algorithm(title="ORPO", sequences=2, source="Hong et al. 2024, arXiv 2403.07691"),
    "simpo": Algorithm(title="SimPO", sequences=2, source="Meng et al. 2024, arXiv 2405.14734"),
    "reward": Algorithm(title="reward model", sequences=2, scores=True,
                        source="Ouyang et al. 2022, arXiv 2203.02155, section 3.5"),
    "ppo": Algorithm(title="PPO", online=True, reference=1, policy=1, reward=1, critic=1,
                     source="Ouyang et al. 2022, arXiv 2203.02155; Sheng et al. 2024 (HybridFlow), arXiv 2409.19256"),
    "grpo": Algorithm(title="GRPO", online=True, reference=1, policy=1, reward=1,
                      source="Shao et al. 2024 (DeepSeekMath), arXiv 2402.03300"),
    "rloo": Algorithm(title="RLOO", online=True, reference=1, policy=1, reward=1,
                      source="Ahmadian et al. 2024, arXiv 2402.14740"),
    "reinforce": Algorithm(title="REINFORCE++", online=True, reference=1, policy=1, reward=1,
                           source="Hu et al. 2025, arXiv 2501.03262"),
}  # fmt: skip
"""Name -> what it runs."""

REFERENCE_MODES = ("model", "adapter", "precomputed")
OFFLOADS = ("none", "all", "policy", "optimizer", "reference", "reward", "critic")
PLACES = ("rollout", *MODELS)
"""Roles that may have devices of their own; the policy's are those of the scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The engine that generates responses."""

    software: str = key("name", "vllm", doc="engine profile, a name from the software catalogue")
    tensor: int | None = key("count?", None, whole=True, minimum=1,
                             doc="devices that share the engine's weights; default parallel.tensor")  # fmt: skip
    memory_utilization: float | None = key("share?", None, minimum=1e-3, maximum=1,
                                           doc="share of the device that the engine takes for weights and cache "
                                               "together; default what the sequences need")  # fmt: skip
    sequences: Number | None = key("count?", None, whole=True, minimum=1,
                                   doc="responses decoded at once, all devices; default a generation")  # fmt: skip
    weight_format: str | None = key("name?", None, doc="format of the engine's weights; default 16 bits")
    kv_format: str | None = key("name?", None, doc="format of keys and values; default the device's 16-bit format")
    shared: bool = key("flag", False, doc="whether the engine's weights take the place of the policy's own while it "
                                          "generates (hybrid engines); else they are a second copy")  # fmt: skip
    sleep: bool = key("flag", True, doc="whether the engine frees its weights and cache while others compute")


@dataclass(frozen=True, slots=True, kw_only=True)
class RL:
    """One way of tuning on preferences or rewards."""

    algorithm: str = key("name", choices=ALGORITHMS, doc="what the policy is trained with")
    reference: Any = key("any", POLICY, doc="model that the policy is held near: name, path, mapping; policy: one of "
                                            "its own size; null: none")  # fmt: skip
    reward: Any = key("any", POLICY, doc="model that scores responses, as reference; null: rewards follow rules")
    critic: Any = key("any", POLICY, doc="model of values (PPO), as reference; trained as the policy is")
    reference_mode: str | None = key(
        "name?", None, choices=REFERENCE_MODES,
        doc="how the reference is had: model (a copy), adapter (the policy with its adapter disabled), precomputed "
            "(its log-probabilities are read from the data); default adapter if there is one, else model")  # fmt: skip
    colocated: bool | None = key("flag?", None, doc="whether all models share the policy's devices in turn; default "
                                                    "unless rl.devices names others")  # fmt: skip
    devices: dict[str, Any] | None = key(
        "mapping?", None, entries={name: entry("count", whole=True, minimum=1) for name in PLACES},
        doc="devices of their own for rollout, reference, reward, critic")  # fmt: skip
    offload: tuple[str, ...] = key("texts", ("none",), choices=OFFLOADS,
                                   doc="what goes to host memory while it rests: none, all, policy (all its states), "
                                       "optimizer (policy's and critic's), reference, reward, critic")  # fmt: skip
    keep_gradients: bool = key("flag", False, doc="whether gradient buffers stay while others compute")
    group_size: int | None = key("count?", None, whole=True, minimum=1, doc="responses per prompt")
    prompt_length: Number | None = key(
        "length?", None, minimum=1, maximum=2**30, doc="tokens of a prompt; default half a sequence"
    )
    response_length: Number | None = key("length?", None, minimum=1, maximum=2**30,
                                         doc="tokens of a response; default what a prompt leaves")  # fmt: skip
    mini_batches: int = key("count", 1, whole=True, minimum=1,
                            doc="optimizer steps that the responses of one generation are divided into")  # fmt: skip
    updates: int = key("count", 1, whole=True, minimum=1, doc="times that the responses of a generation are trained on")
    old_log_probs: bool = key("flag", True, doc="whether the training policy computes the log-probabilities of its "
                                                "responses before training; else the engine's are used")  # fmt: skip
    scoring_batch_size: Number | None = key("count?", None, whole=True, minimum=1,
                                            doc="sequences at once in forward-only passes of a replica; default as in "
                                                "training")  # fmt: skip
    frozen_format: str | None = key("name?", None, doc="format of reference and reward weights; default 16 bits")
    rollout: Rollout = field(default_factory=Rollout)

    @property
    def how(self) -> Algorithm:
        """What the algorithm runs."""
        return ALGORITHMS[self.algorithm]

    def uses(self, role: str) -> bool:
        """Whether a model beside the policy takes part."""
        return bool(self.how.runs(role)) and getattr(self, role) is not None

    def apart(self, role: str) -> int | None:
        """Devices that a role has to itself; None where it shares the policy's."""
        return (self.devices or {}).get(role)

    def parked(self, *names: str) -> bool:
        """Whether something rests in host memory, under any of its names."""
        return not {"all", *names}.isdisjoint(self.offload)


Broken: TypeAlias = tuple[tuple[str, ...], str]
"""Path of a key below `rl`, and what is wrong with it."""


def broken(rl: RL, given: Collection[str], rollout: Collection[str], *, adapter: bool,
           sequence_length: Number | None, global_batch: Number | None) -> Iterator[Broken]:  # fmt: skip
    """Rules that a section breaks: the path of the key below `rl`, and the sentence.

    `given` and `rollout` are the keys that somebody wrote; defaults break no rule.
    """
    how, name = rl.how, rl.algorithm
    for role in MODELS:
        if how.runs(role) or role not in given or getattr(rl, role) is None:
            continue
        having = ", ".join(other for other, kind in ALGORITHMS.items() if kind.runs(role))
        yield (role,), f"{name} has no {role} model; those that have are {having}"
    if how.runs("critic") and rl.critic is None:
        yield ("critic",), f"{name} needs a critic; {_without(rl, 'critic')} go without"
    if how.runs("reference") and rl.reference is None and not how.online:
        yield ("reference",), (f"{name} needs a reference; {_without(rl, 'reference')} go without, and reference_mode "
                               "precomputed keeps none in memory")  # fmt: skip
    yield from _of_reference(rl, adapter)
    if not how.online:
        for word in ("group_size", "mini_batches", "updates", "old_log_probs", "rollout"):
            if word in given:
                yield (word,), f"{name} generates nothing; ppo, grpo, rloo and reinforce do"
    yield from _of_places(rl, rollout)
    if rl.group_size is not None and how.online and global_batch is not None:
        responses = global_batch * rl.mini_batches
        if responses % rl.group_size:
            near = [n for n in (responses // rl.group_size * rl.group_size,
                                (responses // rl.group_size + 1) * rl.group_size) if n]  # fmt: skip
            yield ("group_size",), (f"{responses:g} responses of a generation (global_batch_size x mini_batches) are "
                                    f"no multiple of group_size {rl.group_size}; they could be "
                                    f"{' or '.join(f'{n:g}' for n in near)}")  # fmt: skip
    if sequence_length is not None:
        parts = [part for part in (rl.prompt_length, rl.response_length) if part is not None]
        if len(parts) == 2 and sum(parts) != sequence_length:
            yield ("prompt_length",), (f"prompt_length {parts[0]} + response_length {parts[1]} is {sum(parts)} tokens, "
                                       f"training.sequence_length {sequence_length}: give one of them")  # fmt: skip
        elif parts and parts[0] >= sequence_length:
            word = "prompt_length" if rl.prompt_length is not None else "response_length"
            yield (word,), f"{parts[0]} tokens leave nothing of training.sequence_length {sequence_length}"


def _without(rl: RL, role: str) -> str:
    """Algorithms of the same kind that do without a role."""
    return ", ".join(name for name, kind in ALGORITHMS.items()
                     if kind.online == rl.how.online and not kind.runs(role) and not kind.scores)  # fmt: skip


def _of_reference(rl: RL, adapter: bool) -> Iterator[Broken]:
    """Rules of `reference_mode`."""
    mode, how = rl.reference_mode, rl.how
    if mode is None:
        return
    place = ("reference_mode",)
    if not how.runs("reference"):
        yield place, f"{rl.algorithm} has no reference model"
    elif mode == "adapter" and not adapter:
        yield place, "adapter needs an adapter beside frozen weights (training.adapter.kind: lora)"
    elif mode == "adapter" and rl.reference != POLICY:
        yield place, "adapter makes the reference of the policy itself: leave rl.reference out, or use model"
    elif mode == "precomputed" and how.online:
        yield place, f"{rl.algorithm} scores responses that are not in the data; dpo and kto can read them"


def _of_places(rl: RL, rollout: Collection[str]) -> Iterator[Broken]:
    """Rules of `colocated` and `devices`."""
    if rl.colocated and rl.devices:
        yield ("colocated",), "true puts all models on the policy's devices: leave rl.devices out"
    if rl.colocated is False and not rl.devices:
        yield ("colocated",), f"false needs rl.devices: how many {', '.join(PLACES)} have of their own"
    for role in rl.devices or {}:
        if role == "rollout" and not rl.how.online:
            yield ("devices", role), f"{rl.algorithm} generates nothing"
        elif role != "rollout" and not rl.uses(role):
            yield ("devices", role), f"{rl.algorithm} as described has no {role} model"
        elif role == "reference" and not rl.how.online:
            yield ("devices", role), (f"{rl.algorithm} passes the reference within a training step: it shares the "
                                      "policy's devices")  # fmt: skip
    if rl.apart("rollout") and "shared" in rollout and rl.rollout.shared:
        yield ("rollout", "shared"), "an engine on devices of its own can't share the policy's weights"
    if "none" in rl.offload and len(rl.offload) > 1:
        yield ("offload",), f"none can't be joined with {', '.join(word for word in rl.offload if word != 'none')}"


def lengths(rl: RL, sequence_length: Number) -> tuple[Number, Number]:
    """Tokens of a prompt and of a response, those not given taken from the sequence.

    Examples
    --------
    >>> lengths(RL(algorithm="grpo", prompt_length=512), 2048)
    (512, 1536)
    """
    prompt, response = rl.prompt_length, rl.response_length
    if prompt is None:
        prompt = sequence_length - response if response is not None else sequence_length // 2
    return prompt, sequence_length - prompt if response is None else response


__all__ = ["ALGORITHMS", "MODELS", "PLACES", "POLICY", "RL", "Algorithm", "Rollout", "broken", "lengths"]
