"""Published training times, FLOPs, utilizations and costs, from the inputs that their papers give."""

import pytest

from calc import load
from calc.formulas.cost import device_hours, run_cost, run_energy, run_seconds
from calc.formulas.flop_conventions import (
    matrix_parameters,
    megatron_flops,
    mfu_flops,
    parameter_flops,
    recomputed_mfu_flops,
    utilization,
)
from calc.formulas.flops import backward_flops, token_flops

DAY, TFLOPS = 86400, 1e12


def days(parameters, tokens, devices, rate, passes=8):
    """Days of a run from its size alone, as Narayanan et al. 2021 (arXiv 2104.04473), equation 4; a rate that counts
    recomputation takes 8 passes, one that doesn't 6."""
    return parameter_flops(parameters, tokens, passes) / (devices * rate) / DAY


def test_gpt3_in_34_days():
    """Narayanan et al. 2021 (arXiv 2104.04473), section 5.1: 300 B tokens, 1024 A100, 140 TFLOP/s."""
    assert days(175e9, 300e9, 1024, 140 * TFLOPS) == pytest.approx(34, rel=0.02)
    batch = 1536 * 2048 * megatron_flops(96, 12288, 51200, 2048, recompute=True)
    assert batch == pytest.approx(4.511e18, rel=5e-4)
    assert batch / (1024 * 140 * TFLOPS) == pytest.approx(31.5, abs=0.05)


def test_a_trillion_parameters_in_84_days():
    """The same: 450 B tokens, 3072 A100 at 163 TFLOP/s, 52 % of their peak, 502 PFLOP/s in all."""
    assert days(1008e9, 450e9, 3072, 163 * TFLOPS) == pytest.approx(84, rel=0.02)
    assert 3072 * megatron_flops(128, 25600, 51200, 2048, recompute=True) * 2048 == pytest.approx(5.139e19, rel=5e-4)
    per_token = megatron_flops(128, 25600, 51200, 2048, recompute=True)
    tokens_per_s = 163 * TFLOPS * 3072 / per_token
    assert 100 * utilization(tokens_per_s, per_token, 3072, 312 * TFLOPS) == pytest.approx(52, abs=0.5)
    assert tokens_per_s * per_token == pytest.approx(502e15, rel=0.02)


@pytest.mark.parametrize(("devices", "seconds", "reported"), [(2240, 60.1, 126), (2800, 50.2, 121), (3360, 44.4, 113)])
def test_mt_nlg(devices, seconds, reported):
    """Smith et al. 2022 (arXiv 2201.11990), section 3: step times of 1920 sequences and TFLOP/s per A100."""
    batch = 1920 * 2048 * megatron_flops(105, 20480, 51200, 2048, recompute=True)
    assert batch / devices / seconds / TFLOPS == pytest.approx(reported, rel=0.01)
    model = load.model("mt-nlg-530b")
    with_recompute = token_flops(model, 2048, "full", mode="full").hardware
    assert 1920 * 2048 * with_recompute == pytest.approx(batch, rel=1e-6), "our count, in their convention"


def test_palm_utilization():
    """Chowdhery et al. 2022 (arXiv 2204.02311), section 4.1 and appendix B: 46.2 % MFU, 57.8 % HFU."""
    counted = 6 * 540.35e9 + 12 * 118 * 48 * 256 * 2048  # appendix B, from the sizes that it gives
    mfu = utilization(238.3e3, counted, 6144, 275 * TFLOPS)
    assert 100 * mfu == pytest.approx(46.2, abs=0.2)
    model = load.model("palm-540b")
    assert mfu_flops(model, 2048) == pytest.approx(counted, rel=1e-4)
    again = recomputed_mfu_flops(model, 2048, mode="full")
    assert 1.25 < (mfu_flops(model, 2048) + again) / mfu_flops(model, 2048) < 4 / 3, "57.8 % keeps some results"


def test_gpt3_takes_3640_petaflop_days():
    """Brown et al. 2020 (arXiv 2005.14165), table D.1: 3.14e23 FLOPs."""
    assert parameter_flops(175e9, 300e9) == pytest.approx(3.14e23, rel=0.01)
    assert parameter_flops(175e9, 300e9) / (1e15 * DAY) == pytest.approx(3640, rel=0.01)
    assert parameter_flops(matrix_parameters(load.model("gpt3-175b")), 300e9) == pytest.approx(3.14e23, rel=0.01)


def test_llama_3_405b():
    """Llama 3 (arXiv 2407.21783), sections 3.2 and 3.3 and the model card: 3.8e25 FLOPs on 15.6 T tokens.

    16,384 H100 at 400 TFLOP/s (41 %) would take 67 to 70 days; the card's 30.84 M hours mean 342 TFLOP/s.
    """
    model = load.model("llama-3.1-405b")
    tokens, devices, rate = 15.6e12, 16384, 400 * TFLOPS
    assert parameter_flops(405.85e9, tokens) == pytest.approx(3.8e25, rel=0.05)
    step = 2**24 * token_flops(model, 8192).model / (devices * rate)
    assert step == pytest.approx(6.46, abs=0.005)
    assert 2**24 / step == pytest.approx(2.60e6, rel=2e-3)
    assert run_seconds(tokens / 2**24, step) / DAY == pytest.approx(69.5, abs=0.05)
    assert 3.8e25 / (devices * rate) / DAY == pytest.approx(67.1, abs=0.05)
    mean = 3.8e25 / (30.84e6 * 3600)
    assert mean / TFLOPS == pytest.approx(342, abs=0.5)
    assert mean / 989e12 == pytest.approx(0.346, abs=5e-4)


def test_deepseek_v3():
    """DeepSeek-V3 (arXiv 2412.19437), table 1: 2664 K + 119 K + 5 K H800-hours, $5.576 M at $2.

    180 K hours and 3.7 days per trillion tokens on 2048 devices; MFU 38.94 % causal and 43.73 % full in the hardware
    paper (arXiv 2505.09343).
    """
    assert run_cost(2.664e6 + 0.119e6 + 0.005e6, 2) == pytest.approx(5.576e6)
    per_trillion = 2.664e6 / 14.8
    assert per_trillion == pytest.approx(180e3, rel=1e-3)
    assert per_trillion / 2048 / 24 == pytest.approx(3.66, abs=0.01)
    seconds = 2.664e6 * 3600 / 2048
    assert seconds / DAY == pytest.approx(54.2, abs=0.05)
    assert device_hours(2048, seconds) == pytest.approx(2.664e6)
    model = load.model("deepseek-v3")
    shares = [utilization(14.8e12 / seconds, token_flops(model, 4096, attention).model, 2048, 989 * TFLOPS)
              for attention in ("causal", "full")]  # fmt: skip
    assert [100 * share for share in shares] == pytest.approx([39.1, 43.9], abs=0.05)
    assert [100 * share for share in shares] == pytest.approx([38.94, 43.73], abs=0.2)


def test_deepseek_v2_saves_42_percent():
    """DeepSeek-V2 (arXiv 2405.04434), section 3.2.3: 172.8 K against 300.6 K hours per trillion tokens."""
    assert 100 * (1 - run_cost(172.8e3, 2) / run_cost(300.6e3, 2)) == pytest.approx(42.5, abs=0.05)


def test_jetmoe():
    """JetMoE (arXiv 2404.07413): 96 H100 for two weeks, 1.25 T tokens, 2.2 B active, under $0.1 M."""
    seconds = 14 * DAY
    assert device_hours(96, seconds) == 32_256
    flops = parameter_flops(2.2e9, 1.25e12)
    assert flops == pytest.approx(1.65e22)
    rate = flops / (96 * seconds)
    assert rate / TFLOPS == pytest.approx(142, rel=0.02)
    assert rate / 989e12 == pytest.approx(0.144, rel=0.02)
    assert run_cost(device_hours(96, seconds), 2.48) == pytest.approx(0.08e6, rel=0.02)


def test_flm_101b():
    """FLM-101B (arXiv 2309.03852): three stages on 192 A800 in 21.54 days, about $100,000.

    The measured time lies between counting recomputation and not.
    """
    stages = [(16e9, 245.4e9, 162), (51e9, 39.6e9, 160), (101e9, 26.5e9, 165)]
    plain, again = (
        [days(size, tokens, 192, rate * TFLOPS, passes) for size, tokens, rate in stages] for passes in (6, 8)
    )
    assert plain == pytest.approx([8.77, 4.57, 5.88], abs=0.02)
    assert again == pytest.approx([11.7, 6.1, 7.8], abs=0.05)
    for measured, low, high in zip([9.63, 5.37, 6.54], plain, again, strict=True):
        assert low < measured < high
    assert sum(plain) == pytest.approx(21.54, rel=0.15)
    assert [rate / 312 for _, _, rate in stages] == pytest.approx([0.519, 0.513, 0.529], abs=5e-4)
    assert run_cost(device_hours(192, 21.54 * DAY), 1) == pytest.approx(100e3, rel=0.02)


def test_longcat_flash():
    """LongCat-Flash (arXiv 2509.01322): more than 20 T tokens within 30 days, 27 B active in the mean."""
    flops = parameter_flops(27e9, 20e12)
    assert flops == pytest.approx(3.24e24, rel=0.05)
    assert flops / (30 * DAY) == pytest.approx(1.25e18, rel=0.05)
    assert flops / (30 * DAY) / (0.4 * 989e12) == pytest.approx(3160, rel=0.05)


def test_kimi_k2():
    """Kimi K2's card: 15.5 T tokens, 32 B active."""
    assert parameter_flops(32e9, 15.5e12) == pytest.approx(2.98e24, rel=0.02)


def test_ling_plus():
    """Ling (arXiv 2503.05139): a trillion tokens for 5.08 M RMB in place of 6.35 M, at 27.5 RMB per hour."""
    assert run_cost(5.08e6 / 27.5, 27.5) / 6.35e6 == pytest.approx(0.8, abs=1e-3)
    hours = 6.35e6 / 27.5
    assert hours == pytest.approx(230.9e3, rel=1e-3)
    assert run_cost(hours, 27.5) == pytest.approx(6.35e6)
    rate = parameter_flops(28.8e9, 1e12) / (hours * 3600)
    assert rate / TFLOPS == pytest.approx(208, abs=0.5)
    assert rate / 989e12 == pytest.approx(0.21, abs=1e-3)


def test_twelve_billion_in_nvfp4():
    """NVIDIA 2025 (arXiv 2509.25149): 12 B parameters, 10 T tokens. Whatever the format, FLOPs are FLOPs."""
    assert parameter_flops(12e9, 10e12) == pytest.approx(7.2e23)


def test_half_fine_tuning_saves_a_sixth():
    """Hui et al. 2024 (arXiv 2404.18466): the FLOPs of half the weight gradients; its 30 % is of time."""
    assert 1 - (1 + backward_flops(1, weights=0.5)) / (1 + backward_flops(1)) == pytest.approx(0.167, abs=5e-4)


def test_bloom_planning():
    """BigScience's plan for 176 B (then 167 B): 450 B tokens on 384 A100 at 150 TFLOP/s, four months."""
    assert days(167e9, 450e9, 384, 150 * TFLOPS) == pytest.approx(120.8, abs=0.05)


def test_zero_on_400_v100():
    """Rajbhandari et al. 2020 (arXiv 1910.02054): 15 PFLOP/s at 38 TFLOP/s per device, 30 % of their peak."""
    per_token = parameter_flops(100e9)
    tokens_per_s = 400 * 38 * TFLOPS / per_token
    assert tokens_per_s * per_token == pytest.approx(15.2e15)
    assert utilization(tokens_per_s, per_token, 400, 125 * TFLOPS) == pytest.approx(0.304)


def test_chinchilla_at_gophers_compute():
    """Hoffmann et al. 2022 (arXiv 2203.15556), table 3: both took 5.76e23 FLOPs."""
    assert parameter_flops(70e9, 1.4e12) == pytest.approx(5.76e23, rel=0.025)
    assert parameter_flops(280e9, 300e9) == pytest.approx(5.76e23, rel=0.13)


def test_energy_of_llama_3():
    """Model card of Llama 3.1: 39.3 M hours, 27.51 GWh, 11,390 t in all; 8,930 t for the 405B."""
    family = run_energy(39.3e6, 700)
    assert family / 1e6 == pytest.approx(27.51, abs=0.005)
    assert run_energy(30.84e6, 700) / 1e6 == pytest.approx(21.59, abs=0.005)
    assert 11_390e3 / family == pytest.approx(0.4140, abs=1e-4)
    assert 8_930e3 / run_energy(30.84e6, 700) == pytest.approx(0.4137, abs=1e-4)
