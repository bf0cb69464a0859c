"""Checkpoints: their bytes, the time to write them, and the time that training waits for them."""

from __future__ import annotations

from calc.xp import Number, maximum, minimum


def checkpoint_bytes(parameters: Number, weights: Number = 2, optimizer: Number = 12) -> Number:
    """A checkpoint that training can go on from.

    Equation
    --------
    bytes = parameters * (weights + optimizer)

    Parameters
    ----------
    parameters : Number
        Parameters saved [1].
    weights : Number
        Bytes per parameter of the weights as they are computed with; 0 where only the master copy is saved [byte].
    optimizer : Number
        Bytes per parameter of master copy and moments; 0 for weights alone [byte].

    Source
    ------
    BigScience's BLOOM-176B: checkpoints of 2.3 TiB, 329 GiB of them weights (tr11 README).

    Examples
    --------
    >>> round(checkpoint_bytes(176.247e9) / 2**40, 2), round(checkpoint_bytes(176.247e9, optimizer=0) / 2**30, 1)
    (2.24, 328.3)
    """
    return parameters * (weights + optimizer)


def write_seconds(size: Number, ranks: Number, rank_bandwidth: Number, storage_bandwidth: Number) -> Number:
    """Time to write a checkpoint whose shards are written at once.

    Equation
    --------
    seconds = size / min(ranks * rank_bandwidth, storage_bandwidth)

    Parameters
    ----------
    size : Number
        The whole checkpoint [byte].
    ranks : Number
        Ranks that each write a share [1].
    rank_bandwidth : Number
        What one rank can send [byte/s].
    storage_bandwidth : Number
        What the storage takes in all [byte/s].

    Source
    ------
    The narrower of the two sides.

    Examples
    --------
    BLOOM-176B's 2.467 TB to storage that takes 100 GB/s:

    >>> round(write_seconds(2.467e12, 384, 1e9, 100e9), 1)
    24.7
    """
    return size / minimum(ranks * rank_bandwidth, storage_bandwidth)


def copy_seconds(device_bytes: Number, host_bandwidth: Number) -> Number:
    """Time to copy a device's share of the state to its host.

    Equation
    --------
    seconds = device_bytes / host_bandwidth

    Parameters
    ----------
    device_bytes : Number
        What the device saves [byte].
    host_bandwidth : Number
        Its link to the host, one direction [byte/s].

    Source
    ------
    Maurya et al. 2024 (DataStates-LLM), arXiv 2406.10707, section 3.

    Examples
    --------
    >>> copy_seconds(32e9, 32e9)
    1.0
    """
    return device_bytes / host_bandwidth


def blocking_seconds(write: Number, copy: Number, hidden: Number, asynchronous: bool) -> Number:
    """Time that one checkpoint keeps training waiting.

    Equation
    --------
    blocking: seconds = write
    asynchronous: seconds = max(0, copy - hidden)

    Parameters
    ----------
    write : Number
        Time to write all of it [s].
    copy : Number
        Time to copy it to the host [s].
    hidden : Number
        The part of a step in which weights don't change, so that the copy can run beside it: forward and backward [s].
    asynchronous : bool
        Whether only the copy to the host blocks training.

    Source
    ------
    Maurya et al. 2024 (DataStates-LLM), arXiv 2406.10707: copies run beside the next forward and backward passes.

    Examples
    --------
    >>> blocking_seconds(60, 4, 3, asynchronous=True), blocking_seconds(60, 4, 3, asynchronous=False)
    (1, 60)
    """
    return maximum(0, copy - hidden) if asynchronous else write
