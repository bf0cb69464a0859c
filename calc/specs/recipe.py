"""What a training run stores of each weight: copies, gradients, master; and the copies that low precision adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from calc.configs import normal, records
from calc.errors import unknown
from calc.specs.fields import key, read
from calc.specs.format_records import ROLES
from calc.specs.records import own_name, record_keys

FILE = "recipes.yaml"
COPIES = ("cached", "transient")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What a format of matrix multiplications asks of the weights: one record of `precisions`."""

    name: str = key("name", doc="as `training.precision` names it, or a recipe does")
    title: str = key("text", doc="name for people")
    low_roles: tuple[str, ...] = key("texts", (), choices=ROLES,
                                     doc="roles multiplied in it; all others stay in 16 bits")  # fmt: skip
    row_bytes: float = key("bytes", 0, doc="bytes per element of the copy that forward reads, scales included")
    column_bytes: float = key("bytes", 0, doc="bytes per element of the transposed copy that backward reads; 0: none")
    recipe: str | None = key("name?", None, doc="recipe it asks for where nothing names one")
    notes: Any = key("any", None, doc="what bites")
    source: str = key("text", doc="where the figures are from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is stored of a trained weight: one record of `recipes`."""

    name: str = key("name", doc="catalogue name")
    title: str = key("text", doc="name for people")
    weight_bytes: float = key("bytes", minimum=1, doc="bytes per element of the weights that layers compute with")
    gradient_bytes: float = key("bytes", minimum=1, doc="bytes per element of all gradient copies kept to the step")
    master_bytes: float = key("bytes", 0, doc="bytes per element of a master copy; 0: the weight itself is updated")
    moment_bytes: float | None = key("bytes?", None, doc="bytes per element of an optimizer's moments where the "
                                                         "optimizer doesn't say; null: as what is updated")  # fmt: skip
    cast_bytes: float = key("bytes", 0, doc="bytes per element of the copies that autocast makes of matrices while a "
                                            "pass lasts")  # fmt: skip
    dispatch_bytes: float = key("bytes", 2, minimum=0.5, doc="bytes per element of tokens sent to experts on other "
                                                            "devices; what they send back has two")  # fmt: skip
    low_weights: bool = key("flag", False, doc="whether matrices are stored in the precision's own format alone")
    copies: str = key("name", "cached", choices=COPIES, doc="whether copies in the precision's format live as long as "
                                                            "the run, or while their layer computes")  # fmt: skip
    precision: str | None = key("name?", None, doc="the precision that it is for; null: the workload's")
    notes: Any = key("any", None, doc="what bites")
    source: str = key("text", doc="where the figures are from")

    @property
    def updated_bytes(self) -> float:
        """Bytes per element of what the optimizer updates: the master, or the weight where there is none."""
        return self.master_bytes or self.weight_bytes

    def weight_bytes_of(self, role: str, precision: Precision) -> float:
        """Stored bytes per element of a weight [byte]."""
        return precision.row_bytes if self._low(role, precision) and self.low_weights else self.weight_bytes

    def copy_bytes_of(self, role: str, precision: Precision) -> float:
        """Bytes per element of the copies that stay beside the weights all the time [byte]."""
        return self._copies(role, precision) if self.copies == "cached" else 0.0

    def transient_copy_bytes_of(self, role: str, precision: Precision) -> float:
        """Bytes per element of copies that live while their own layer computes [byte]."""
        return self._copies(role, precision) if self.copies == "transient" else 0.0

    def _low(self, role: str, precision: Precision) -> bool:
        return precision.row_bytes > 0 and role in precision.low_roles

    def _copies(self, role: str, precision: Precision) -> float:
        """Copies in the precision's format beside the stored weight, which may be one of them."""
        if not self._low(role, precision):
            return 0.0
        return precision.column_bytes + (0.0 if self.low_weights else precision.row_bytes)


def recipe_names() -> list[str]:
    """Names of all recipes, as the file orders them."""
    return list(records(FILE).names("recipes"))


def precision_names() -> list[str]:
    """Names of all precisions, as the file orders them."""
    return list(records(FILE).names("precisions"))


@lru_cache(maxsize=32)
def recipe_named(name: str) -> Recipe:
    """The recipe of a name or alias; a record with `like` has that record's keys but for those it sets itself.

    Raises
    ------
    UnknownNameError
        No recipe has the name; the nearest are named.

    Examples
    --------
    >>> mixed = recipe_named("mixed")
    >>> mixed.weight_bytes + mixed.gradient_bytes + mixed.master_bytes + 2 * mixed.updated_bytes
    16.0
    """
    wanted = own_name(records(FILE), name)
    if wanted not in recipe_names():
        raise unknown("recipe", name, recipe_names(), other=records(FILE).names("aliases"))
    document, keys = record_keys(records(FILE), "recipes", wanted, "recipe")
    return read(Recipe, document, (wanted,), data=keys)


@lru_cache(maxsize=32)
def precision_named(name: str) -> Precision:
    """The precision of a name.

    >>> precision_named("mxfp8").row_bytes
    1.03125
    """
    wanted = normal(name)[:80]
    if wanted not in precision_names():
        raise unknown("precision", name, precision_names())
    document = records(FILE).record("precisions", wanted)
    return read(Precision, document, (wanted,), data={**document.data[wanted], "name": wanted})


__all__ = ["Precision", "Recipe", "precision_named", "precision_names", "recipe_named", "recipe_names"]
