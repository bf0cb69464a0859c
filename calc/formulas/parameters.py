"""Parameter counts, to the parameter, from the weights that the parts declare."""

from __future__ import annotations

from dataclasses import dataclass

from calc.architecture.model import Model, Stack, weights_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Counts of one model. Buffers are not parameters (DeepSeek-V3's router correction is one)."""

    total: int
    """Every stored parameter once; tied tables once."""
    active: int
    """What one token passes through: `total` less the experts it isn't sent to. Both embeddings count."""
    embed_tokens: int
    """Input token table."""
    lm_head: int
    """Output projection and its bias, where it is not tied."""
    positions: int
    """Learned position tables."""
    experts: int
    """Routed experts, all of them."""
    trainable: int
    """Equal to `total` unless an adapter freezes the rest."""

    @property
    def embedding(self) -> int:
        """Tables at both ends: input tokens, output head, positions."""
        return self.embed_tokens + self.lm_head + self.positions

    @property
    def non_embedding(self) -> int:
        """All that is not a table at the ends."""
        return self.total - self.embedding


def parameters(model: Model, *, towers: bool = True) -> Parameters:
    """Count the parameters of a model.

    Equation
    --------
    total = sum over weights of copies * outputs * (inputs + bias)
    active = the same with the copies that a token uses in place of those stored

    Parameters
    ----------
    model : Model
    towers : bool
        Count vision and audio towers too. Multi-token-prediction layers are never counted:
        checkpoints ship them, common loaders drop them.

    Source
    ------
    Megatron-LM `theoretical_memory_usage.py`; checked against transformers 5.23 on the meta
    device (`tests/data/parameters.yaml`).
    """
    names = ("encoder", "decoder", "vision", "audio") if towers else ("encoder", "decoder")
    return count([stack for stack in model.stacks if stack.name in names])


def count(stacks: list[Stack]) -> Parameters:
    """The counts of some stacks, as `parameters` defines them."""
    total = active = experts = 0
    by_role = {"embedding": 0, "head": 0, "position": 0}
    for stack in stacks:
        for _part, weight, layers in weights_of(stack):
            if not weight.stored:
                continue
            elements = weight.elements * layers
            total += elements
            active += round(weight.used * elements / weight.copies) if weight.copies > 1 else elements
            if weight.role in by_role:
                by_role[weight.role] += elements
            if weight.role == "expert":
                experts += elements
    return Parameters(total=total, active=active, embed_tokens=by_role["embedding"], lm_head=by_role["head"],
                      positions=by_role["position"], experts=experts, trainable=total)  # fmt: skip
