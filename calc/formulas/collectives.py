"""How long groups of devices take to exchange data: groups that lie inside nodes, across them, or both, and on tori."""

from __future__ import annotations

from dataclasses import dataclass

from calc.errors import MissingFactError
from calc.specs.efficiency import Efficiency
from calc.specs.hardware import Cluster, Hardware
from calc.xp import Number, ceil, ceil_div, highest, log, maximum, minimum, where

LOG2 = 0.6931471805599453


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """What connects the devices of an estimate."""

    per_node: Number
    """Devices per node [1]."""
    link: float
    """What a device reaches inside its node, one direction [byte/s]."""
    network: float
    """What it reaches to other nodes, one direction [byte/s]."""
    kind: str
    """switch, mesh, ring, torus or pcie."""
    in_network: float
    """What an all-reduce inside the switch reaches [byte/s]; 0 where there is none."""
    efficiency: Efficiency
    """Latencies and shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Ranks that exchange data, and where they lie."""

    ranks: Number
    """Devices of the group [1]."""
    per_node: Number
    """Of them in one node [1]."""
    nodes: Number
    """Nodes that it spans [1]."""
    neighbours: Number
    """Groups that share a node and its network cards [1]."""
    link: Number
    """Bandwidth of each rank inside the node, one direction [byte/s]."""
    network: Number
    """Bandwidth of each rank between nodes, one direction [byte/s]."""
    fabric: Fabric
    """What connects all devices."""


def fabric(hardware: Hardware, cluster: Cluster, efficiency: Efficiency, devices: Number) -> Fabric:
    """What connects devices: the cluster's links, else the device's own.

    Raises
    ------
    MissingFactError
        There are several devices, or several nodes, and no record says what connects them.
    """
    most = highest(devices)
    own = cluster.node_link or hardware.link or {}
    bandwidth, kind = own.get("bandwidth"), own.get("topology") or ("torus" if efficiency.torus_axes else "switch")
    if bandwidth is None:
        bandwidth, kind = (hardware.host_link or {}).get("bandwidth"), "pcie"
    if bandwidth is None and most > 1 and cluster.devices_per_node > 1:
        raise MissingFactError(f"nothing says what connects the devices of a node; give "
                               f"cluster.node_link.bandwidth, or link.bandwidth of {hardware.name}")  # fmt: skip
    network = hardware.network if cluster.nic_per_device is None else cluster.nic_per_device
    if not network and most > cluster.devices_per_node:
        raise MissingFactError(f"{most:g} devices are more than a node's {cluster.devices_per_node}, and nothing says "
                               f"what connects nodes; give cluster.nic_per_device, or another --cluster")  # fmt: skip
    nominal = float(bandwidth or 1)
    return Fabric(
        per_node=cluster.devices_per_node, kind=kind, efficiency=efficiency,
        link=nominal * (efficiency.pcie if kind == "pcie" else efficiency.link),
        network=float(network or 1) * efficiency.network,
        in_network=nominal * efficiency.in_network if kind == "switch" else 0.0,
    )  # fmt: skip


def place(fabric: Fabric, ranks: Number, stride: Number = 1) -> Group:
    """Where the ranks of a group lie when they are `stride` devices apart.

    Equation
    --------
    per_node = min(ranks, max(1, floor(devices_per_node / stride)));  nodes = ceil(ranks / per_node)
    neighbours = devices_per_node / per_node
    link of a mesh = link * (per_node - 1) / (devices_per_node - 1);  of a torus = link * axes / all axes

    Parameters
    ----------
    fabric : Fabric
        What connects the devices.
    ranks : Number
        Devices of the group [1].
    stride : Number
        Product of the degrees inside this one, in the order tensor, context, expert, data, pipeline [1].

    Source
    ------
    Narayanan et al. 2021 (Megatron-LM), arXiv 2104.04473, section 3: tensor groups inside nodes.

    Every rank has its own share of the network cards (`nic_per_device`), which its neighbours' groups use at the same
    time.
    """
    per_node = minimum(ranks, maximum(1, -ceil(-fabric.per_node / stride)))
    nodes = ceil_div(ranks, per_node)
    link: Number = fabric.link
    if fabric.kind == "mesh":
        link = link * maximum(per_node - 1, 1) / max(fabric.per_node - 1, 1)
    elif fabric.kind == "torus" and fabric.efficiency.torus_axes:
        link = link * _axes(fabric.efficiency, per_node) / fabric.efficiency.torus_axes
    return Group(ranks=ranks, per_node=per_node, nodes=nodes, neighbours=fabric.per_node / per_node, link=link,
                 network=fabric.network, fabric=fabric)  # fmt: skip


def _axes(efficiency: Efficiency, ranks: Number) -> Number:
    """Axes of a torus that a group lies along: one more for each factor of `torus_side`."""
    side, axes = efficiency.torus_side, efficiency.torus_axes
    return minimum(axes, where(ranks > side * side, 3, where(ranks > side, 2, 1)))


def _both(group: Group, inside: Number, across: Number) -> Number:
    """Time of what goes inside nodes and what goes between them, as far as one runs during the other."""
    overlapped = group.fabric.efficiency.pipelined
    return maximum(inside, across) + (1 - overlapped) * minimum(inside, across)


def _hops(group: Group) -> Number:
    """Latency of once round the group."""
    own = group.fabric.efficiency
    steps = group.ranks - group.nodes
    if group.fabric.kind == "torus" and own.torus_axes:
        axes = _axes(own, group.per_node)
        steps = group.nodes * axes * (group.per_node ** (1 / axes)) / 2  # both ways round, along each axis
        steps = where(group.per_node > 1, steps, 0)
    return steps * own.link_latency + (group.nodes - 1) * own.network_latency


def all_gather(size: Number, group: Group, messages: Number = 1) -> Number:
    """Time of an all-gather.

    Equation
    --------
    seconds = both(inside, across) + messages * latency
    inside = (per_node - 1) / per_node * size / link
    across = (nodes - 1) / nodes * size / per_node / network
    both(a, b) = max(a, b) + (1 - pipelined) * min(a, b)

    Parameters
    ----------
    size : Number
        Gathered tensor [byte].
    group : Group
    messages : Number
        Equal pieces (buckets, layers) it is sent in; each waits for its own latency [1].

    Source
    ------
    Ring: Patarasuk and Yuan 2009; nodes: as many rings as a node has ranks, each through its own network card (NCCL).
    """
    inside = (group.per_node - 1) / group.per_node * size / group.link
    across = (group.nodes - 1) / group.nodes * size / (group.per_node * group.network)
    return _both(group, inside, across) + messages * _hops(group)


def reduce_scatter(size: Number, group: Group, messages: Number = 1) -> Number:
    """Time of a reduce-scatter: that of the all-gather which undoes it; `size` is the tensor before it is scattered."""
    return all_gather(size, group, messages)


def all_reduce(size: Number, group: Group, messages: Number = 1) -> Number:
    """Time of an all-reduce: the fastest of ring and tree, inside a switch where that can add.

    Equation
    --------
    seconds = min(ring, tree)
    ring = 2 * both(inside, across) + messages * 2 * latency
    tree = 2 * both(size / link, size / per_node / network) + messages * 2 * log2(ranks) steps

    Parameters
    ----------
    size : Number
        Tensor [byte].
    group : Group
    messages : Number
        Equal pieces it is sent in [1].

    Source
    ------
    Ring: Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms; tree: Sanders et al. 2009, Two-tree
    algorithms (NCCL 2.4); inside a switch: Graham et al. 2016 (SHARP); hierarchical: reduce-scatter inside nodes,
    all-reduce of the pieces between them, all-gather inside.
    """
    own = group.fabric.efficiency
    inside = 2 * (group.per_node - 1) / group.per_node * size / group.link
    if group.fabric.in_network:
        inside = minimum(inside, where(group.per_node > 2, size / group.fabric.in_network, inside))
    across = 2 * (group.nodes - 1) / group.nodes * size / (group.per_node * group.network)
    ring = _both(group, inside, across) + messages * 2 * _hops(group)
    if group.fabric.kind == "torus":
        return ring
    inside = where(group.per_node > 1, maximum(inside, 2 * size / group.link), 0)
    across = where(group.nodes > 1, 2 * size / (group.per_node * group.network), 0)
    steps = log(group.per_node) * own.link_latency + log(group.nodes) * own.network_latency
    return minimum(ring, _both(group, inside, across) + messages * 2 / LOG2 * steps)


def all_to_all(size: Number, group: Group, messages: Number = 1, node_limit: Number = 0,
               experts_per_token: Number = 1) -> Number:  # fmt: skip
    """Time of an all-to-all.

    Equation
    --------
    seconds = both(inside, across) + messages * (latency + (ranks - 1) * message)
    inside = (per_node - 1) / ranks * size / link;  across = (nodes - 1) / nodes * size / network
    with node_limit: across * min(experts_per_token, node_limit, nodes) / experts_per_token, and
                     inside = (per_node - 1) / per_node * size / link, since what arrives is handed on
    on a torus: inside = size * side / 4 / bandwidth of one axis

    Parameters
    ----------
    size : Number
        What one device holds before [byte].
    group : Group
    messages : Number
        Equal pieces it is sent in [1].
    node_limit : Number
        Nodes that a token is sent to at most: one copy goes to each, and is handed on inside; 0: no limit [1].
    experts_per_token : Number
        Copies of a token, with `node_limit` [1].

    Source
    ------
    DeepSeek-AI 2024 (DeepSeek-V3), arXiv 2412.19437, sections 2.1.2 and 3.2.2; tori: Austin et al. 2025, How to Scale
    Your Model, chapter 3: on a ring that runs both ways an all-to-all takes a quarter of the all-gather.
    """
    own = group.fabric.efficiency
    inside = (group.per_node - 1) / group.ranks * size / group.link
    across = (group.nodes - 1) / group.nodes * size / group.network
    copies = minimum(experts_per_token, maximum(node_limit, 1), group.nodes) / maximum(experts_per_token, 1)
    across = where(node_limit > 0, across * copies, across)
    inside = where(node_limit > 0, (group.per_node - 1) / group.per_node * size / group.link, inside)
    if group.fabric.kind == "torus" and own.torus_axes:
        axes = _axes(own, group.per_node)
        axis = group.fabric.link / own.torus_axes
        inside = maximum(inside, where(group.per_node > 1, size * group.per_node ** (1 / axes) / 4 / axis, 0))
    latency = where(group.per_node > 1, own.link_latency, 0) + where(group.nodes > 1, own.network_latency, 0)
    return _both(group, inside, across) + messages * (latency + (group.ranks - 1) * own.message)


def broadcast(size: Number, group: Group, messages: Number = 1) -> Number:
    """Time of a broadcast or a reduction to one rank, pipelined along the group.

    Equation
    --------
    seconds = max(size / link, size / per_node / network) + messages * latency, of the links that it uses

    Parameters
    ----------
    size : Number
        Tensor [byte].
    group : Group
    messages : Number
        Equal pieces it is sent in [1].

    Source
    ------
    Thakur et al. 2005.
    """
    inside = where(group.per_node > 1, size / group.link, 0)
    across = where(group.nodes > 1, size / (group.per_node * group.network), 0)
    return maximum(inside, across) + messages * _hops(group)


def p2p(size: Number, group: Group, messages: Number = 1) -> Number:
    """Time of messages to the next rank of a group; where a group spans nodes, of those that cross them.

    Equation
    --------
    seconds = messages * latency + size / bandwidth

    Parameters
    ----------
    size : Number
        All messages together [byte].
    group : Group
        Neighbours, as pipeline stages or the ranks of a context ring.
    messages : Number
        Messages [1].

    Source
    ------
    Hockney 1994; the slowest boundary sets the pace of all.
    """
    own, crosses = group.fabric.efficiency, group.nodes > 1
    bandwidth = where(crosses, group.network, group.link)
    seconds = messages * where(crosses, own.network_latency, own.link_latency) + size / bandwidth
    return where(group.ranks > 1, seconds, 0)
