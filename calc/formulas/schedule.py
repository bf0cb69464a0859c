"""Pipeline schedules: how long stages wait, and how many micro-batches each holds."""

from __future__ import annotations

from calc.errors import unknown
from calc.xp import Number, log, maximum, minimum, where

NAMES = {"zero_bubble": "zb-h1", "zb1p": "zb-h1", "zb2p": "zb-2p", "zb-h2": "zb-2p", "zbv": "zb-v"}
"""Other names of schedules."""

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zb-h1", "zb-2p", "zb-v", "v-half", "v-min", "dualpipe", "dualpipev",
             "chimera")  # fmt: skip
"""Schedules by their own names."""


def canonical(schedule: str) -> str:
    """A schedule's own name.

    Raises
    ------
    CalcError
        There is no such schedule; the nearest is named.

    Examples
    --------
    >>> canonical("zero_bubble"), canonical("zb_2p")
    ('zb-h1', 'zb-2p')
    """
    name = NAMES.get(schedule) or NAMES.get(schedule.replace("_", "-")) or schedule.replace("_", "-")
    name = {"dualpipe-v": "dualpipev"}.get(name, name)
    if name not in SCHEDULES:
        raise unknown("schedule", schedule, (*SCHEDULES, *NAMES))
    return name


def bubble_seconds(schedule: str, stages: Number, micro_batches: Number, forward: Number, backward: Number,
                   weight: Number = 0, chunks: Number = 1, overlapped: Number | None = None) -> Number:  # fmt: skip
    """Time that a stage waits for others, per optimizer step.

    Equation
    --------
    gpipe, 1f1b: (stages - 1) * (forward + backward);  interleaved: that / chunks
    zb-h1: (stages - 1) * (forward + backward - weight) - filled;  filled = min(stages - 1, micro_batches - 1) * weight
    zb-2p, zb-v: the same with filled = min(2 * (stages - 1), micro_batches - 1) * weight: 0 where F = B_in = W
    v-half: a half of 1f1b's;  v-min: two thirds
    dualpipe, dualpipev: (stages / 2 - 1) * (overlapped + backward - 3 * weight)
    chimera: (stages / 2 - 1) * (forward + backward)

    Parameters
    ----------
    schedule : str
        Name of the schedule.
    stages : Number
        Pipeline stages [1].
    micro_batches : Number
        Of one replica per optimizer step; zero-bubble schedules fill the wait with their weight gradients [1].
    forward, backward : Number
        Time of one micro-batch on one whole stage; backward is the full backward pass [s].
    weight : Number
        Part of `backward` that computes gradients of weights [s].
    chunks : Number
        Interleaved chunks per stage [1].
    overlapped : Number, optional
        Time of a forward and a backward pass that run at once; default their sum [s].

    Source
    ------
    Narayanan et al. 2021, arXiv 2104.04473; Qi et al. 2023, 2024 (zero bubble, controllable memory), arXiv 2401.10241,
    2405.15362; DeepSeek-AI, DualPipe; Li and Hoefler 2021 (Chimera), arXiv 2107.06925.

    Examples
    --------
    Eight stages, forward 1, backward 2 of which 1 is for weights:

    >>> [bubble_seconds(name, 8, 32, 1, 2, 1) for name in ("1f1b", "zb-h1", "zb-2p", "dualpipe")]
    [21, 7, 0, 6.0]
    """
    name = canonical(schedule)
    waiting = stages - 1
    if name in ("gpipe", "1f1b"):
        return waiting * (forward + backward)
    if name == "interleaved":
        return waiting * (forward + backward) / chunks
    if name in ("zb-h1", "zb-2p", "zb-v"):
        filled = minimum(waiting * (1 if name == "zb-h1" else 2), micro_batches - 1) * weight
        return maximum(waiting * (forward + backward - weight) - filled, 0)
    if name in ("v-half", "v-min"):
        return waiting * (forward + backward) * (0.5 if name == "v-half" else 2 / 3)
    half = maximum(stages / 2 - 1, 0)
    if name == "chimera":
        return half * (forward + backward)
    both = forward + backward if overlapped is None else overlapped
    return half * maximum(both + backward - 3 * weight, 0)


def in_flight(schedule: str, stages: Number, micro_batches: Number, stage: Number = 0,
              chunks: Number = 1) -> Number:  # fmt: skip
    """Micro-batches whose activations a stage holds at once, in units of a whole stage's.

    Equation
    --------
    gpipe: m;  1f1b, zb-h1: min(m, p - i);  zb-2p: min(m, 2 * (p - i))
    interleaved: min(m, (2 * (p - i - 1) + (v - 1) * p + 1) / v)
    zb-v: min(m, p);  v-half: min(m, p / 2);  v-min: min(m, p / 3)
    dualpipe, dualpipev: min(m, p + 1);  chimera: min(m, min(p / 2, p - i) + min(p / 2, i + 1))
    one stage: 1, since there is no pipeline to fill

    Parameters
    ----------
    schedule : str
        Name of the schedule.
    stages : Number
        Pipeline stages, p [1].
    micro_batches : Number
        Of one replica per optimizer step, m [1].
    stage : Number
        Stage, i, from 0 [1].
    chunks : Number
        Interleaved chunks per stage, v [1].

    Source
    ------
    Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.3: interleaving multiplies the first stage's activations by
    1 + (p - 1) / (p v); Megatron-LM's warm-up; zero-bubble and DualPipe READMEs.

    Examples
    --------
    >>> in_flight("1f1b", 8, 64, 0), in_flight("1f1b", 8, 64, 7), in_flight("interleaved", 8, 64, 0, 4)
    (8, 1, 9.75)
    """
    name = canonical(schedule)
    if name in ("1f1b", "zb-h1"):
        return minimum(micro_batches, stages - stage)
    return where(stages > 1, _held(name, stages, micro_batches, stage, chunks), minimum(micro_batches, 1))


def _held(name: str, stages: Number, micro_batches: Number, stage: Number, chunks: Number) -> Number:
    """The same of the other schedules, where there are several stages."""
    if name == "gpipe":
        return micro_batches + 0 * stage
    if name == "zb-2p":
        return minimum(micro_batches, 2 * (stages - stage))
    if name == "interleaved":
        return minimum(micro_batches, (2 * (stages - stage - 1) + (chunks - 1) * stages + 1) / chunks)
    if name == "chimera":
        return minimum(micro_batches, minimum(stages / 2, stages - stage) + minimum(stages / 2, stage + 1))
    held = {"zb-v": stages, "v-half": stages / 2, "v-min": stages / 3}.get(name, stages + 1) + 0 * stage
    return minimum(micro_batches, maximum(held, 1))


def parameter_copies(schedule: str) -> int:
    """Stages' worth of parameters on each device: two where pipelines run both ways.

    >>> parameter_copies("dualpipe"), parameter_copies("dualpipev")
    (2, 1)
    """
    return 2 if canonical(schedule) in ("dualpipe", "chimera") else 1


def straggler_factor(devices: Number, jitter: Number) -> Number:
    """How much longer the slowest of many devices takes than the mean one.

    Equation
    --------
    factor = 1 + jitter * sqrt(2 * ln(devices))

    Parameters
    ----------
    devices : Number
        Devices that wait for each other [1].
    jitter : Number
        Standard deviation of one device's time, as a part of it [1].

    Source
    ------
    Expected maximum of normal variables; independent devices.

    Examples
    --------
    >>> straggler_factor(1, 0.01), round(straggler_factor(1024, 0.01), 3)
    (1.0, 1.037)
    """
    return 1 + jitter * (2 * log(devices)) ** 0.5
