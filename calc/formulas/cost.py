"""A whole run: steps, time, device-hours, money, energy, carbon."""

from __future__ import annotations

from calc.xp import Number, ceil

HOUR = 3600.0
"""Seconds."""
KWH = 3.6e6
"""Joules."""


def run_steps(tokens: Number, global_batch: Number, sequence: Number) -> Number:
    """Optimizer steps of a run.

    Equation
    --------
    steps = ceil(tokens / (global_batch * sequence))

    Parameters
    ----------
    tokens : Number
        Tokens of the whole run [token].
    global_batch : Number
        Sequences per step [1].
    sequence : Number
        Tokens per sequence [token].

    Source
    ------
    Counting.

    Examples
    --------
    DeepSeek-V3: 14.8 T tokens, 15360 sequences of 4096.

    >>> run_steps(14.8e12, 15360, 4096)
    235240
    """
    return ceil(tokens / (global_batch * sequence))


def run_seconds(steps: Number, step_seconds: Number, goodput: Number = 1) -> Number:
    """Wall time of a run.

    Equation
    --------
    seconds = steps * step_seconds / goodput

    Parameters
    ----------
    steps : Number
        Optimizer steps [1].
    step_seconds : Number
        Time of one [s].
    goodput : Number
        Share of the time in which work is done that counts [1].

    Source
    ------
    Counting.

    Examples
    --------
    Llama-3.1-405B, 15.6 T tokens in steps of 16.78 M that take 6.46 s, in days:

    >>> round(run_seconds(15.6e12 / 2**24, 6.46) / 86400, 1)
    69.5
    """
    return steps * step_seconds / goodput


def device_hours(devices: Number, seconds: Number) -> Number:
    """Devices times hours.

    Equation
    --------
    hours = devices * seconds / 3600

    Parameters
    ----------
    devices : Number
        Devices that the run holds [1].
    seconds : Number
        Its wall time [s].

    Source
    ------
    Counting.

    Examples
    --------
    JetMoE-8B: 96 H100 for two weeks.

    >>> device_hours(96, 14 * 86400)
    32256.0
    """
    return devices * seconds / HOUR


def run_cost(hours: Number, price: Number) -> Number:
    """What the devices cost.

    Equation
    --------
    dollars = hours * price

    Parameters
    ----------
    hours : Number
        Device-hours [1].
    price : Number
        Of one device-hour [dollar].

    Source
    ------
    Counting.

    Examples
    --------
    DeepSeek-V3, 2.788 M hours at $2:

    >>> run_cost(2.788e6, 2)
    5576000.0
    """
    return hours * price


def run_energy(hours: Number, power: Number, power_share: Number = 1, pue: Number = 1) -> Number:
    """Energy of a run.

    Equation
    --------
    kWh = hours * power * power_share * pue / 1000

    Parameters
    ----------
    hours : Number
        Device-hours [1].
    power : Number
        Thermal design power of a device [W].
    power_share : Number
        Mean power, as a share of it: 0.8 to 0.95 in dense training [1].
    pue : Number
        Power of the site per power of its computers [1].

    Source
    ------
    Patterson et al. 2021, arXiv 2104.10350, section 2.

    Examples
    --------
    Llama-3.1-405B: 30.84 M hours at 700 W, in GWh.

    >>> round(run_energy(30.84e6, 700) / 1e6, 2)
    21.59
    """
    return hours * HOUR * power * power_share * pue / KWH


def run_carbon(energy: Number, intensity: Number) -> Number:
    """Carbon dioxide of that energy.

    Equation
    --------
    kg = energy * intensity

    Parameters
    ----------
    energy : Number
        Energy of the site [kWh].
    intensity : Number
        Emitted per kWh [kg].

    Source
    ------
    Patterson et al. 2021, arXiv 2104.10350, section 2.

    Examples
    --------
    Llama-3.1-405B's card gives 8,930 t:

    >>> round(run_carbon(21.59e6, 0.4137) / 1000)
    8932
    """
    return energy * intensity
