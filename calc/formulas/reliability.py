"""Failures: how often, how often to save the state for them, and what share of the time is left."""

from __future__ import annotations

from calc.xp import Number, maximum, minimum, where


def system_mtbf(device_mtbf: Number, devices: Number) -> Number:
    """Mean time between failures of a whole system, any of whose devices stops it.

    Equation
    --------
    M = device_mtbf / devices

    Parameters
    ----------
    device_mtbf : Number
        Mean time between failures of one device, with its share of host and network [s].
    devices : Number
        Devices [1].

    Source
    ------
    Independent failures; Llama 3 (arXiv 2407.21783, section 3.3.4): 419 unexpected in 54 days of 16,384 GPUs.

    Examples
    --------
    A device of that cluster fails every 50,677 hours; the cluster every 3.09.

    >>> round(system_mtbf(50677 * 3600, 16384) / 3600, 3)
    3.093
    """
    return device_mtbf / devices


def young_interval(blocking: Number, mtbf: Number) -> Number:
    """Time between checkpoints that loses least, to first order.

    Equation
    --------
    tau = sqrt(2 * blocking * M)

    Parameters
    ----------
    blocking : Number
        Time that one checkpoint keeps training waiting [s].
    mtbf : Number
        The system's mean time between failures, M [s].

    Source
    ------
    Young 1974, Communications of the ACM 17(9), 530.

    Examples
    --------
    In minutes, for 60 s every 3.093 h:

    >>> round(young_interval(60, 3.093 * 3600) / 60, 1)
    19.3
    """
    return (2 * blocking * mtbf) ** 0.5


def daly_interval(blocking: Number, mtbf: Number) -> Number:
    """Time between checkpoints that loses least, to higher order.

    Equation
    --------
    tau = sqrt(2 * blocking * M) * (1 + x / 3 + x^2 / 9) - blocking, x = sqrt(blocking / (2 M)), for blocking < 2 M;
    else tau = M

    Parameters
    ----------
    blocking : Number
        Time that one checkpoint keeps training waiting [s].
    mtbf : Number
        The system's mean time between failures, M [s].

    Source
    ------
    Daly 2006, Future Generation Computer Systems 22(3), 303, equation 37.

    Examples
    --------
    In minutes, for 60 s every 3.093 h:

    >>> round(daly_interval(60, 3.093 * 3600) / 60, 1)
    18.6
    """
    share = blocking / (2 * mtbf)
    order = young_interval(blocking, mtbf) * (1 + share**0.5 / 3 + share / 9) - blocking
    return where(share < 1, order, mtbf)


def wasted_share(interval: Number, blocking: Number, mtbf: Number, restart: Number = 0) -> Number:
    """Share of the time that checkpoints and failures take, at most all of it.

    Equation
    --------
    share = blocking / tau + (tau / 2 + restart) / M

    Parameters
    ----------
    interval : Number
        Time between checkpoints, tau [s].
    blocking : Number
        Time that one checkpoint keeps training waiting [s].
    mtbf : Number
        The system's mean time between failures, M [s].
    restart : Number
        Time to notice a failure, start again and load [s].

    Source
    ------
    Young 1974, Communications of the ACM 17(9), 530; half an interval's work is lost at each failure.

    Examples
    --------
    10 s checkpoints, a failure every 3.093 h that costs 10 minutes, in percent:

    >>> hours = 3.093 * 3600
    >>> round(100 * wasted_share(young_interval(10, hours), 10, hours, 600), 1)
    9.6
    """
    return minimum(1, blocking / interval + (interval / 2 + restart) / mtbf)


def goodput(interval: Number, blocking: Number, mtbf: Number, restart: Number = 0) -> Number:
    """Share of the time in which work is done that counts.

    Equation
    --------
    goodput = 1 - (blocking / tau + (tau / 2 + restart) / M)

    Parameters
    ----------
    interval : Number
        Time between checkpoints, tau [s].
    blocking : Number
        Time that one checkpoint keeps training waiting [s].
    mtbf : Number
        The system's mean time between failures, M [s].
    restart : Number
        Time to notice a failure, start again and load [s].

    Source
    ------
    Young 1974, Communications of the ACM 17(9), 530.

    Examples
    --------
    Llama 3 reports more than 90 % effective training time:

    >>> hours = 3.093 * 3600
    >>> round(100 * goodput(young_interval(10, hours), 10, hours, 600), 1)
    90.4
    """
    return maximum(0, 1 - wasted_share(interval, blocking, mtbf, restart))
