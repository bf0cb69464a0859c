"""Offload to host memory or NVMe: what is kept where, how much passes over the links, how long that and the host take.

What a transfer adds to a step is `calc.formulas.exposed.exposed`: optimizer states overlap nothing but their own
computation, parameters and activations overlap the layers' (ZeRO-Infinity, section 4).
"""

from __future__ import annotations

from collections.abc import Iterable

from calc.xp import Number, maximum

DEVICE, HOST, NVME = "device", "host", "nvme"


def tier(what: str, offload: Iterable[str], offload_to: str = "cpu", paged: bool = False) -> str:
    """Where a kind of bytes is kept: `device`, `host` or `nvme`.

    Gradients follow the optimizer, which reads them where it is. Activations go to the host in any case: DeepSpeed
    writes none to NVMe. A paged optimizer's states are in host memory without being asked.

    Parameters
    ----------
    what : str
        weights, gradients, optimizer or activations.
    offload : iterable of str
        What the plan offloads: optimizer, parameters, activations.
    offload_to : str
        cpu or nvme.
    paged : bool
        Whether the optimizer pages its states.

    Examples
    --------
    ZeRO-Offload, and ZeRO-Infinity with everything on NVMe:

    >>> kinds = ("weights", "gradients", "optimizer", "activations")
    >>> [tier(what, ["optimizer"]) for what in kinds]
    ['device', 'host', 'host', 'device']
    >>> [tier(what, ["optimizer", "parameters", "activations"], "nvme") for what in kinds]
    ['nvme', 'nvme', 'nvme', 'host']
    """
    asked = tuple(offload)
    away = NVME if offload_to == "nvme" else HOST
    if what == "activations":
        return HOST if "activations" in asked else DEVICE
    if what == "weights":
        return away if "parameters" in asked else DEVICE
    if "optimizer" in asked:
        return away
    return HOST if paged and what == "optimizer" else DEVICE


def node_bytes(device_bytes: Number, devices_per_node: Number) -> Number:
    """Bytes on a node's host memory or NVMe: each of its devices brings its own share.

    Equation
    --------
    bytes = device_bytes * devices_per_node

    Parameters
    ----------
    device_bytes : Number
        What one device has offloaded [byte].
    devices_per_node : Number
        Devices of the plan in one node [1].

    Source
    ------
    Ren et al. 2021 (ZeRO-Offload), arXiv 2101.06840, section 4.2: each rank offloads its own partition.

    Examples
    --------
    10 billion parameters on one device: 20 GB stay there, 140 GB (fp32 states, fp16 gradients) are on the host.

    >>> node_bytes(10e9 * (12 + 2), 1) / 1e9
    140.0
    """
    return device_bytes * devices_per_node


def staging_bytes(largest_elements: Number, element_bytes: Number, buffers: Number) -> Number:
    """Pinned host memory that transfers to and from NVMe go through.

    Equation
    --------
    bytes = largest_elements * element_bytes * buffers

    Parameters
    ----------
    largest_elements : Number
        Elements of the largest tensor that is moved in one piece [1].
    element_bytes : Number
        Bytes per element [byte].
    buffers : Number
        Buffers (DeepSpeed: buffer_count, 5 for parameters, 4 for the optimizer's states) [1].

    Source
    ------
    DeepSpeed docs, config-json, offload_param and offload_optimizer (buffer_count, buffer_size).
    """
    return largest_elements * element_bytes * buffers


def optimizer_link_bytes(elements: Number, gradient_bytes: Number, weight_bytes: Number, ranks: Number,
                         gradient_passes: Number) -> Number:  # fmt: skip
    """Bytes over one device's host link and step where the optimizer is offloaded: gradients down, new weights up.

    Equation
    --------
    bytes = elements * (gradient_passes * gradient_bytes + weight_bytes) / ranks

    Parameters
    ----------
    elements : Number
        Trained parameters on the device before ZeRO's sharding [1].
    gradient_bytes, weight_bytes : Number
        Bytes per element of what goes down and what comes back [byte].
    ranks : Number
        Devices that the optimizer is sharded over [1].
    gradient_passes : Number
        Times that gradients go down in a step: 1, or each micro-batch where they are added up on the host [1].

    Source
    ------
    Ren et al. 2021 (ZeRO-Offload), arXiv 2101.06840, section 3: 4 bytes per parameter.

    Examples
    --------
    >>> optimizer_link_bytes(10e9, 2, 2, 1, 1) / 10e9
    4.0
    """
    return elements * (gradient_passes * gradient_bytes + weight_bytes) / ranks


def parameter_link_bytes(elements: Number, weight_bytes: Number, gradient_bytes: Number, loads: Number) -> Number:
    """Bytes that one pass of a model moves where parameters are offloaded.

    Equation
    --------
    bytes = elements * (loads * weight_bytes + gradient_bytes)

    Parameters
    ----------
    elements : Number
        Parameters that the devices of the link load between them; each its shard, which they then gather [1].
    weight_bytes, gradient_bytes : Number
        Bytes per element loaded, and of the gradient stored [byte].
    loads : Number
        Loads of each weight in a micro-batch: forward and backward, and once more for recomputation [1].

    Source
    ------
    Rajbhandari et al. 2021 (ZeRO-Infinity), arXiv 2104.07857, section 4.1.

    Examples
    --------
    With recomputation 8 bytes per parameter:

    >>> parameter_link_bytes(1, 2, 2, 3)
    8
    """
    return elements * (loads * weight_bytes + gradient_bytes)


def activation_link_bytes(checkpoint_bytes: Number) -> Number:
    """Bytes that offloaded activations move: out in forward, back in backward.

    Equation
    --------
    bytes = 2 * checkpoint_bytes

    Parameters
    ----------
    checkpoint_bytes : Number
        Stored layer inputs of a step on one device [byte].

    Source
    ------
    Rajbhandari et al. 2021 (ZeRO-Infinity), arXiv 2104.07857, section 4.1.
    """
    return 2 * checkpoint_bytes


def transfer_seconds(bytes: Number, bandwidth: Number) -> Number:
    """Time of a transfer that a link bounds.

    Equation
    --------
    seconds = bytes / bandwidth

    Parameters
    ----------
    bytes : Number
        What passes over the link [byte].
    bandwidth : Number
        What the link sustains in that direction, or both where they share it [byte/s].

    Source
    ------
    Rajbhandari et al. 2021 (ZeRO-Infinity), arXiv 2104.07857, section 4.2.
    """
    return bytes / bandwidth


def host_step_seconds(elements: Number, element_bytes: Number, bandwidth: Number, share: Number) -> Number:
    """Time of an optimizer step on the host's processors, which memory bounds.

    Equation
    --------
    seconds = elements * element_bytes / (bandwidth * share)

    Parameters
    ----------
    elements : Number
        Parameters that one node's host updates [1].
    element_bytes : Number
        Bytes read and written per parameter: 28 for Adam in 32 bits with 16-bit gradients and weights [byte].
    bandwidth : Number
        Peak memory bandwidth of the host [byte/s].
    share : Number
        Share of it that the step reaches [1].

    Source
    ------
    Ren et al. 2021 (ZeRO-Offload), arXiv 2101.06840, section 5 (vectorized, multi-threaded Adam); the traffic is
    `calc.formulas.states.step_traffic_bytes`.

    Examples
    --------
    Ten billion parameters on a DGX-2 (256 GB/s) at half of its bandwidth: 2.2 s.

    >>> round(host_step_seconds(10e9, 28, 255.9e9, 0.5), 1)
    2.2
    """
    return elements * element_bytes / (bandwidth * share)


def nvme_step_bytes(states: Number, gradients: Number, weights: Number) -> Number:
    """Bytes that an optimizer step moves between NVMe and host: states in and out, gradients in, weights out.

    Equation
    --------
    bytes = 2 * states + gradients + weights

    Parameters
    ----------
    states : Number
        Master weights and moments of one node [byte].
    gradients, weights : Number
        Gradients and computed weights that are kept there too, else 0 [byte].

    Source
    ------
    Rajbhandari et al. 2021 (ZeRO-Infinity), arXiv 2104.07857, section 5.2.2 (optimizer states from NVMe in chunks).
    """
    return 2 * states + gradients + weights


def step_seconds(host: Number, transfers: Number) -> Number:
    """Time of an offloaded optimizer's step: computing and moving run in chunks, the slower one shows.

    Equation
    --------
    seconds = max(host, transfers)

    Parameters
    ----------
    host : Number
        Computation on the host [s].
    transfers : Number
        The longest of what passes over host link and NVMe meanwhile [s].

    Source
    ------
    Rajbhandari et al. 2021 (ZeRO-Infinity), arXiv 2104.07857, section 5.2.2; ZeRO-Offload, section 5 (tiled copies).
    """
    return maximum(host, transfers)
