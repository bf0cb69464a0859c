"""What communication adds to a step where some of it runs behind computation."""

from __future__ import annotations

from calc.xp import Number, maximum


def exposed(communication: Number, window: Number, overlap: Number) -> Number:
    """Communication that computation does not hide.

    Equation
    --------
    exposed = max((1 - overlap) * communication, communication - overlap * window)

    Parameters
    ----------
    communication : Number
        Time of the exchange by itself [s].
    window : Number
        Computation that it can run behind [s].
    overlap : Number
        Share of either that really runs side by side, 0 to 1 [1].

    Source
    ------
    Both bounds hold whatever the framework does: never less than communication minus computation, never more than
    communication; `overlap` stands between them and is calibrated per framework (`configs/software.yaml`).

    Examples
    --------
    >>> exposed(2.0, 10.0, 0.75), exposed(20.0, 10.0, 1.0), exposed(20.0, 10.0, 0.0)
    (0.5, 10.0, 20.0)
    """
    return maximum((1 - overlap) * communication, communication - overlap * window)
