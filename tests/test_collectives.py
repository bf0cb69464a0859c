"""Collectives on links, nodes, networks and tori; and how much each form of parallelism exchanges."""

from dataclasses import replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc import load
from calc.errors import MissingFactError
from calc.formulas import collectives, traffic
from calc.formulas.collectives import (
    all_gather,
    all_reduce,
    all_to_all,
    broadcast,
    fabric,
    p2p,
    place,
    reduce_scatter,
)


def fabric_of(cluster, **changes):
    """A cluster's fabric; `changes` are of the efficiency record."""
    node = load.cluster(cluster)
    hardware = load.hardware(node.hardware or "l40s")
    efficiency = replace(load.efficiency(hardware.efficiency), **changes)
    return fabric(hardware, node, efficiency, 1024)


NOMINAL = {"link": 1, "network": 1, "pipelined": 0, "in_network": 0, "link_latency": 0, "network_latency": 0}
"""Links at their nominal rate, one part after the other: what textbooks count with."""

DGX = fabric_of("dgx-h100")


def test_textbook_examples():
    """As the α-β model gives them: 1 GB over 8 at 450 GB/s and 5 us; 14 GB over 64 at 50 GB/s and 10 us."""
    plain = fabric_of("dgx-h100", **NOMINAL | {"link_latency": 5e-6, "network_latency": 10e-6})
    assert all_reduce(1e9, place(plain, 8)) == pytest.approx(3.959e-3, rel=1e-3)
    assert all_gather(1e9, place(plain, 8)) == pytest.approx(1.979e-3, rel=1e-3)
    assert all_reduce(14e9, place(plain, 64, 8)) == pytest.approx(0.5525, rel=1e-3)


def test_nodes_first_then_the_network():
    """2 (g-1)/g S/B_i + 2 (N-1)/N (S/g)/B_x, for 4 nodes of 8."""
    group = place(fabric_of("dgx-h100", **NOMINAL), 32)
    assert (group.per_node, group.nodes) == (8, 4)
    assert all_reduce(1e9, group) == pytest.approx(2 * 7 / 8 * 1e9 / 450e9 + 2 * 3 / 4 * 1e9 / 8 / 50e9)
    assert all_gather(1e9, group) * 2 == pytest.approx(all_reduce(1e9, group))
    overlapped = place(fabric_of("dgx-h100", **NOMINAL | {"pipelined": 1}), 32)
    assert all_reduce(1e9, overlapped) == pytest.approx(2 * 7 / 8 * 1e9 / 450e9), "8 cards make 400 GB/s of a node"


@pytest.mark.parametrize(
    "ranks, stride, expected",
    [(8, 1, (8, 1)), (4, 1, (4, 1)), (16, 1, (8, 2)), (8, 8, (1, 8)), (16, 4, (2, 8)), (2, 16, (1, 2)), (1, 1, (1, 1))],
)
def test_where_groups_lie(ranks, stride, expected):
    group = place(DGX, ranks, stride)
    assert (group.per_node, group.nodes) == expected
    assert group.neighbours == 8 / expected[0]


def test_small_messages_take_the_tree():
    spread = place(fabric_of("dgx-h100", **NOMINAL | {"network_latency": 10e-6}), 64, 8)
    ring = 2 * 63 * 10e-6
    assert all_reduce(1e3, spread) < ring, "a tree has 2 log2(64) steps"
    assert all_reduce(14e9, spread) == pytest.approx(2 * 63 / 64 * 14e9 / 50e9 + ring), "a tree sends more"


def test_pieces_wait_each():
    group = place(DGX, 1024, 1)
    assert all_gather(1e9, group, 100) - all_gather(1e9, group) == pytest.approx(
        99 * (896 * DGX.efficiency.link_latency + 127 * DGX.efficiency.network_latency))  # fmt: skip


def test_one_rank_exchanges_nothing():
    alone = place(DGX, 1)
    for function in (all_gather, reduce_scatter, all_reduce, broadcast, p2p, all_to_all):
        assert function(1e9, alone) == 0


def test_in_the_switch():
    """8 x H200: 363 GB/s of bus bandwidth in rings, up to 480 with NVLS (stas00/ml-engineering)."""
    bus = 2 * 7 / 8 * 8e9 / all_reduce(8e9, place(DGX, 8)) / 1e9
    ring = 2 * 7 / 8 * 8e9 / all_reduce(8e9, place(fabric_of("dgx-h100", in_network=0), 8)) / 1e9
    assert ring == pytest.approx(363, rel=0.03)
    assert bus == pytest.approx(480, rel=0.05)


def test_a_mesh_is_as_fast_as_the_links_that_a_group_uses():
    mesh = fabric_of("mi300x-8x")
    assert place(mesh, 2).link == pytest.approx(place(mesh, 8).link / 7)
    assert place(DGX, 2).link == place(DGX, 8).link


def test_devices_on_pcie_share_it():
    slow = fabric_of("pcie-8x", pcie=0.5)
    assert slow.kind == "pcie"
    assert slow.link == 0.5 * 31.5e9


def test_a_torus():
    """All-gather V / W along one axis of a v5p pod, W both ways of it; an all-to-all a quarter of that."""
    pod = fabric_of("tpu-v5p-pod", **NOMINAL | {"message": 0})
    assert pod.link == 600e9
    axis = place(pod, 4)
    assert axis.link == 200e9
    assert place(pod, 16).link == 400e9
    assert place(pod, 64).link == 600e9
    assert all_gather(1e9, axis) == pytest.approx(3 / 4 * 1e9 / 200e9)
    assert all_to_all(1e9, place(pod, 4)) == pytest.approx(1e9 * 4 / 4 / 200e9)
    assert place(pod, 4096).nodes == 1


def test_experts_on_few_nodes():
    """A token of 8 experts goes to at most 4 nodes: half the copies cross."""
    group = place(fabric_of("hgx-h800", **NOMINAL | {"message": 0, "pipelined": 1}), 64)
    free = all_to_all(469.8e6, group)
    assert free == pytest.approx(7 / 8 * 469.8e6 / 50e9)
    assert all_to_all(469.8e6, group, node_limit=4, experts_per_token=8) == pytest.approx(free / 2)


def test_missing_links_name_the_key():
    hardware = replace(load.hardware("rtx-4090"), network=None)
    node = replace(load.cluster("workstation-4x"), nic_per_device=None)
    with pytest.raises(MissingFactError, match="nic_per_device"):
        fabric(hardware, node, load.efficiency("ada"), 8)
    fabric(hardware, node, load.efficiency("ada"), 4)
    with pytest.raises(MissingFactError, match="node_link"):
        fabric(replace(hardware, link=None, host_link=None), replace(node, node_link=None), load.efficiency("ada"), 2)


def test_tensor_parallel_volume():
    """Llama-3-70B, 4096 tokens over 8: 67.1 MB per all-reduce, 83.5 ms per micro-batch at 450 GB/s."""
    group = place(fabric_of("dgx-h100", **NOMINAL), 8)
    size = traffic.tensor_traffic(4096, 8192)
    assert size == pytest.approx(67.1e6, rel=1e-3)
    assert 80 * 4 * all_reduce(size, group) == pytest.approx(83.5e-3, rel=1e-3)


def test_context_parallel_volume():
    """131,072 tokens over 16: 33.55 MB a step, 0.67 ms at 50 GB/s, hidden behind 3.7 ms of attention at 600 TFLOP/s."""
    size = traffic.ring_traffic(131072 / 16, 8 * 128)
    assert size == pytest.approx(33.55e6, rel=1e-3)
    step = p2p(size, place(fabric_of("dgx-h100", **NOMINAL), 16, 8))
    assert step == pytest.approx(0.67e-3, rel=0.01)
    assert step < 4 * (131072 / 16) ** 2 * 64 * 128 / 600e12
    assert traffic.gather_traffic(131072 / 16, 1024, 16) == 16 * size
    assert traffic.ulysses_traffic(4096, 8192, 8192) == 4 * 4096 * 8192 * 2


def test_pipeline_volume():
    whole = traffic.pipeline_traffic(4096, 8192)
    assert whole == 2 * 4096 * 8192
    assert traffic.pipeline_traffic(4096, 8192, tensor=8, chunks=4) == whole / 2


CLUSTERS = ("dgx-h100", "mi300x-8x", "tpu-v5p-pod", "pcie-8x")
FUNCTIONS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast", "p2p")
POWERS = st.integers(0, 10).map(lambda power: 2**power)


@pytest.mark.parametrize("cluster", CLUSTERS)
@given(plans=st.lists(st.tuples(st.integers(1, 10**10), POWERS, POWERS, st.integers(1, 100), st.integers(0, 8)),
                      min_size=1, max_size=5))  # fmt: skip
def test_scalar_equals_array(cluster, plans):
    layout = fabric_of(cluster)
    size, ranks, stride, messages, limit = (numpy.array([float(plan[place]) for plan in plans]) for place in range(5))
    for name in FUNCTIONS:
        function = getattr(collectives, name)
        extra = {"node_limit": limit, "experts_per_token": 8} if name == "all_to_all" else {}
        answer = function(size, place(layout, ranks, stride), messages, **extra)
        expected = []
        for plan in plans:
            extra = {"node_limit": plan[4], "experts_per_token": 8} if name == "all_to_all" else {}
            expected.append(float(function(plan[0], place(layout, plan[1], plan[2]), plan[3], **extra)))
        assert answer.tolist() == pytest.approx(expected, rel=1e-12)
        assert all(seconds >= 0 for seconds in expected)
