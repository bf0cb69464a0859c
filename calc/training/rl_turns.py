"""What every model of a tuning run has on a device in each phase: states that work or rest, what lives for a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from calc.ledger import Term, largest, total
from calc.memory.overhead import SLACK, assumed_term
from calc.specs.rl import PLACES
from calc.training.evaluate import Evaluation, evaluate
from calc.training.plan import Plan
from calc.training.rl_forward import Forward
from calc.training.rl_generation import Engine, engine
from calc.training.rl_models import frozen, reference_mode, role_plan
from calc.training.stage_memory import StageMemory
from calc.training.stages import Stage
from calc.xp import Number

POLICY_DEVICES = "policy"
"""The devices that the policy trains on, and all that aren't apart."""
ACTIVE = {"generation": "rollout", "log_probs": "policy", "reference": "reference", "reward": "reward",
          "values": "critic", "training": "policy", "critic_training": "critic"}  # fmt: skip
"""Phase -> whose computation it is; in the order of a step."""
TITLES = {"generation": "generation", "log_probs": "scoring by the policy", "reference": "scoring by the reference",
          "reward": "scoring by the reward model", "values": "scoring by the critic", "training": "training",
          "critic_training": "training of the critic"}  # fmt: skip
"""Phase -> how a sentence names it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phase:
    """What the fullest device of one phase holds."""

    name: str
    """One of `ACTIVE`."""
    place: str
    """Whose devices: `policy`, or the role that has its own."""
    devices: Number
    """Devices that it runs on."""
    memory: StageMemory
    """Terms of the fullest of them."""
    models: Mapping[str, Number] = field(default_factory=dict)
    """Role -> bytes of its states that are on the device."""

    @property
    def needed(self) -> Number:
        """What the device's tools show as in use [byte]."""
        return self.memory.memory.value


STATES = ("weights", "gradients", "optimizer", "adapter")


@dataclass(slots=True, kw_only=True, eq=False)
class Resident:
    """What one role has on a device in one phase."""

    role: str
    terms: dict[str, Term] = field(default_factory=dict)
    """By state: weights, gradients, optimizer, adapter."""
    away: dict[str, tuple[str, Number]] = field(default_factory=dict)
    """What of it waits elsewhere: what it is -> tier and size [byte]."""

    def put(self, state: str, term: Term, present: bool = True) -> None:
        """A state, on the device or in host memory."""
        if present:
            self.terms[state] = term
        elif term.value:
            self.away[f"{self.role} {state}"] = "host", term.value


class Turns:
    """One tuning run: every role's memory under its plan, asked phase by phase."""

    def __init__(self, found: Evaluation) -> None:
        tuning = found.plan.scenario.tuning
        assert tuning is not None
        self.found, self.plan, self.rl = found, found.plan, tuning.rl
        self.mode = reference_mode(self.plan)
        rl, how, plan = self.rl, self.rl.how, self.plan
        # sequences of a pass: a KTO step passes a mismatched completion of each by itself, as many as it trains on
        batch = rl.scoring_batch_size or plan.layout.micro_batch
        self.batch = batch
        self.policy = Forward(plan, batch, logits=not how.scores, states_=found.model)
        self.frozen: dict[str, Forward] = {}
        for role in ("reference", "reward"):
            if rl.uses(role) and not (role == "reference" and self.mode != "model"):
                made = frozen(role_plan(plan, role), rl.frozen_format)
                self.frozen[role] = Forward(made, batch, logits=role == "reference")
        self.critic: Evaluation | None = evaluate(role_plan(plan, "critic")) if rl.uses("critic") else None
        self.values = None if self.critic is None else Forward(self.critic.plan, batch, logits=False,
                                                               states_=self.critic.model)  # fmt: skip
        self.engine: Engine | None = None
        if how.online:
            self.engine = engine(plan, plan.layout.global_batch * rl.mini_batches)

    def apart(self, role: str) -> bool:
        """Whether a role has devices of its own."""
        return self.rl.apart(role) is not None

    def order(self) -> list[str]:
        """The phases there are, in the order of a step."""
        how, there = self.rl.how, {"training"}
        if how.online:
            there.add("generation")
            there |= {"log_probs"} if self.rl.old_log_probs else set()
            there |= {"values", "critic_training"} if self.critic is not None else set()
        there |= {"reference"} if self.mode in ("model", "adapter") else set()
        there |= {"reward"} if "reward" in self.frozen else set()
        return [name for name in ACTIVE if name in there]

    def phases(self) -> Iterator[Phase]:
        """Each phase on the devices that it runs on."""
        for name in self.order():
            role = ACTIVE[name]
            place = role if role != "policy" and self.apart(role) else POLICY_DEVICES
            if name == "generation" and place == role:
                yield self._largest(name, place, [self.plan.stages[0]])
                continue
            plan = self.plan if place == POLICY_DEVICES else self._plan_of(role)
            yield self._largest(name, place, plan.stages)

    def _plan_of(self, role: str) -> Plan:
        if role == "critic":
            assert self.critic is not None
            return self.critic.plan
        return self.frozen[role].plan

    def _largest(self, name: str, place: str, stages: list[Stage]) -> Phase:
        """The phase on its fullest stage."""
        found = [self._phase(name, place, stage) for stage in stages]
        return max(found, key=lambda phase: float(phase.needed))

    def _phase(self, name: str, place: str, stage: Stage) -> Phase:
        """One phase on one stage's devices."""
        active = ACTIVE[name]
        roles = [active]
        if place == POLICY_DEVICES:
            roles = ["policy", *(role for role in PLACES if not self.apart(role))]
        residents = [resident for role in roles if (resident := self._resident(name, role, stage)) is not None]
        transient, buffers, overhead = self._live(name, place, stage)
        terms = {state: total(f"memory.{state}", [
            Term(f"memory.{state}.{resident.role}", resident.terms[state].value, terms=(resident.terms[state],),
                 combines="sum")
            for resident in residents if state in resident.terms]) for state in STATES}  # fmt: skip
        away = {what: there for resident in residents for what, there in resident.away.items()}
        memory = StageMemory(stage=stage, **terms, transient=transient, buffers=buffers, overhead=overhead,
                             away=away)  # fmt: skip
        devices: Number = self.plan.layout.devices
        if place == "rollout":
            assert self.engine is not None
            devices = self.engine.devices
        elif place != POLICY_DEVICES:
            devices = self._plan_of(place).layout.devices
        held = {resident.role: sum(term.value for term in resident.terms.values()) for resident in residents}
        return Phase(name=name, place=place, devices=devices, memory=memory,
                     models={role: size for role, size in held.items() if size})  # fmt: skip

    # what rests and what works

    def _resident(self, name: str, role: str, stage: Stage) -> Resident | None:
        """A role's states in a phase."""
        rl, works = self.rl, ACTIVE[name] == role
        found = Resident(role=role)
        if role in ("policy", "critic"):
            evaluation = self.found if role == "policy" else self.critic
            if evaluation is None:
                return None
            memory = _stage_of(evaluation, stage)
            trains = works and name in ("training", "critic_training")
            # a preference step passes the reference while the policy's graph is held
            trains = trains or (role == "policy" and not rl.how.online)
            works = works or (role == "policy" and self.mode == "adapter" and name == "reference")
            stays = works or trains or not rl.parked(role)
            # a hybrid engine's weights take the place of the policy's own
            shared = role == "policy" and name == "generation" and not self.apart("rollout") and rl.rollout.shared
            if not shared:
                found.put("weights", memory.weights, stays)
            found.put("adapter", memory.adapter, stays)
            found.put("optimizer", memory.optimizer, trains or not rl.parked(role, "optimizer"))
            if trains or rl.keep_gradients:
                found.put("gradients", memory.gradients, trains or stays)
            found.away.update({f"{role} {what} offloaded": there for what, there in memory.away.items()
                               if trains or what != "activations"})  # fmt: skip
            return found
        if role == "rollout":
            if self.engine is None or (name != "generation" and rl.rollout.sleep):
                return None
            found.put("weights", self.engine.found.weights)
            return found
        forward = self.frozen.get(role)
        if forward is None:
            return None
        found.put("weights", forward.weights(stage), works or not rl.parked(role))
        return found

    def _live(self, name: str, place: str, stage: Stage) -> tuple[Term, Term, Term]:
        """What lives for an instant, buffers, and overhead of a phase."""
        engine_, here = self.engine, place == POLICY_DEVICES
        beside: list[Term] = []
        buffers: list[Term] = []
        if engine_ is not None and (place == "rollout" or (here and not self.apart("rollout"))):
            buffers.append(Term("memory.buffers.engine", engine_.found.buffers.value, terms=(engine_.found.buffers,),
                                combines="sum"))  # fmt: skip
            if name == "generation" or not self.rl.rollout.sleep:
                beside = list(engine_.cache)
        if name == "generation":
            assert engine_ is not None
            transient = largest("memory.transient", [total("memory.transient.generation",
                                                           [*beside, *engine_.transient])])  # fmt: skip
            return transient, total("memory.buffers", buffers), self._overhead(engine_, here)
        evaluation = self.critic if ACTIVE[name] == "critic" else self.found
        assert evaluation is not None
        trained = _stage_of(evaluation, stage)
        communication = [] if engine_ is None or not here or self.apart("rollout") else [engine_.communication]
        if name in ("training", "critic_training"):
            instants = [total(term.name, [*term.terms, *beside]) for term in trained.transient.terms]
            overhead = total("memory.overhead", [*trained.overhead.terms, *_renamed(communication)])
            return (largest("memory.transient", instants), total("memory.buffers", [*trained.buffers.terms, *buffers]),
                    overhead)  # fmt: skip
        forward = self._forward(name)
        live = [*forward.transient(stage), *beside]
        if name == "reference" and not self.rl.how.online:
            live = [*_graph(trained), *live]
            buffers = [*trained.buffers.terms, *buffers]
        transient = largest("memory.transient", [total(f"memory.transient.{name}", live)])
        context = [term for term in trained.overhead.terms if term.name.endswith((".context", ".communication"))]
        slack = assumed_term(SLACK, evaluation.plan.parts.profile.slack, transient.value)
        return (transient, total("memory.buffers", buffers),
                total("memory.overhead", [*context, *_renamed(communication), slack]))  # fmt: skip

    def _forward(self, name: str) -> Forward:
        """What passes in a forward-only phase."""
        if name == "values":
            assert self.values is not None
            return self.values
        return self.frozen.get(ACTIVE[name], self.policy)

    def _overhead(self, engine_: Engine, here: bool) -> Term:
        """Overhead while the engine generates: where training rests beside it, its communication groups stay open."""
        terms = list(engine_.found.overhead.terms)
        if here and not self.apart("rollout"):
            known = {term.name: term for term in self.found.worst.overhead.terms}
            contexts = [term for term in (*terms, *known.values()) if term.name.endswith(".context")]
            terms = [max(contexts, key=lambda term: float(term.value)), known["memory.overhead.communication"],
                     *_renamed([engine_.communication]), *(term for term in terms if term.name == SLACK)]  # fmt: skip
        return total("memory.overhead", terms)


def _renamed(terms: list[Term]) -> list[Term]:
    """The engine's communication beside training's."""
    return [Term("memory.overhead.engine", term.value, low=term.low, high=term.high, note=term.note) for term in terms]


def _stage_of(evaluation: Evaluation, stage: Stage) -> StageMemory:
    """The terms of the stage with the same index."""
    return next((found for found in evaluation.stages if found.stage.index == stage.index), evaluation.stages[0])


def _graph(trained: StageMemory) -> list[Term]:
    """What a policy's forward pass holds until its backward pass: activations and logits."""
    instants = {term.name.rpartition(".")[2]: term for term in trained.transient.terms}
    held = instants.get("loss") or instants["backward"]
    return [term for term in held.terms if term.name.startswith(("memory.activations", "memory.logits"))
            and not term.name.endswith(".recomputed")]  # fmt: skip
