"""Published figures about pipelines, communication and offload."""

import pytest

from calc.formulas.schedule import bubble_seconds, in_flight, parameter_copies


@pytest.mark.parametrize(
    "stages, batches, chunks, of_ideal, of_total",
    [(8, 32, 1, 21.9, 17.9), (8, 32, 4, 5.47, 5.19), (16, 16, 1, 93.75, 48.4)],
)
def test_bubbles_of_1f1b(stages, batches, chunks, of_ideal, of_total):
    """Narayanan et al. 2021, arXiv 2104.04473: (p-1)/(v m) of the ideal time; Llama 3 (arXiv 2407.21783) the same."""
    name = "1f1b" if chunks == 1 else "interleaved"
    share = bubble_seconds(name, stages, batches, 1, 2, 1, chunks) / (batches * 3)
    assert 100 * share == pytest.approx(of_ideal, abs=0.05)
    assert 100 * share / (1 + share) == pytest.approx(of_total, abs=0.05)


def test_c2_zero_bubble():
    """sail-sg/zero-bubble-pipeline-parallelism README: bubbles B/3, 0, 0, B/2, 2B/3 of 1F1B's B, where F = B = W."""
    one = bubble_seconds("1f1b", 8, 64, 1, 2, 1)
    assert one == 21
    found = [bubble_seconds(name, 8, 64, 1, 2, 1) / one for name in ("zb-h1", "zb-2p", "zb-v", "v-half", "v-min")]
    assert found == pytest.approx([1 / 3, 0, 0, 1 / 2, 2 / 3])
    memory = [in_flight(name, 12, 64) / 12 for name in ("zb-h1", "zb-2p", "zb-v", "v-half", "v-min")]
    assert memory == pytest.approx([1, 2, 1, 1 / 2, 1 / 3])


@pytest.mark.parametrize("stages", [4, 8, 16])
def test_c3_dualpipe(stages):
    """deepseek-ai/DualPipe README: (PP-1)(F+B), (PP-1)(F+B-2W), (PP/2-1)(F&B+B-3W); activations PP, PP, PP+1."""
    forward, backward, weight, both = 1.0, 2.2, 0.9, 2.8
    batches = 4 * stages
    assert bubble_seconds("1f1b", stages, batches, forward, backward) == pytest.approx((stages - 1) * 3.2)
    assert bubble_seconds("zb1p", stages, batches, forward, backward, weight) == pytest.approx((stages - 1) * 1.4)
    assert bubble_seconds("dualpipe", stages, batches, forward, backward, weight, overlapped=both) == pytest.approx(
        (stages / 2 - 1) * (both + backward - 3 * weight)
    )
    assert [in_flight(name, stages, batches) for name in ("1f1b", "zb1p", "dualpipe")] == [stages, stages, stages + 1]
    assert [parameter_copies(name) for name in ("1f1b", "zb1p", "dualpipe")] == [1, 1, 2]


def test_dualpipe_in_units():
    """F = 1, B = 2, W = 1 on 8 stages, both directions at once in 3: 6 units for 21 and 7."""
    found = [bubble_seconds(name, 8, 64, 1, 2, 1, overlapped=3) for name in ("1f1b", "zero_bubble", "dualpipe")]
    assert found == [21, 7, 6]


def test_c6_chimera():
    """Li and Hoefler 2021, arXiv 2107.06925: (p-2)/(2m) of the ideal time, half of 1F1B's bubbles at most."""
    assert bubble_seconds("chimera", 8, 32, 1, 2) / (32 * 3) == pytest.approx((8 - 2) / (2 * 32))


def test_interleaving_multiplies_the_first_stage():
    """Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.3: 1 + (p-1)/(p v)."""
    for stages, chunks in ((8, 3), (35, 3), (64, 1), (8, 1)):
        expected = stages * (1 + (stages - 1) / (stages * chunks))
        assert in_flight("interleaved", stages, 1000, 0, chunks) == pytest.approx(expected)
