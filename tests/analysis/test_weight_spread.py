from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.analysis import weight_spread
from rlstep.analysis.weight_spread import COLUMNS, layer_of, matrix_sums, spread_figures


def figures(now: torch.Tensor, before: torch.Tensor, name: str = "layers.0.a.weight"):
    found = spread_figures({name: matrix_sums(now, before).numpy()})
    return {
        key.removeprefix("weights/"): value for key, value in found.items() if key.count("/") == 1
    }


def test_a_matrix_by_hand():
    # Of (-1, -1, 1, 1) mean 0, standard deviation 1, fourth moment 1: excess -2. Of the change
    # (0, 0, 0, 4): mean 1, deviations (-1, -1, -1, 3), variance (3 + 9)/4 = 3, fourth moment
    # (3 + 81)/4 = 21, excess 21/9 - 3 = -2/3. Three of four did not move.
    now = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    before = torch.tensor([[-1.0, -1.0], [1.0, -3.0]])
    assert figures(now, before) == {
        "std": 1.0,
        "kurtosis": -2.0,
        "outliers": 0.0,
        "change_std": pytest.approx(3**0.5),
        "change_kurtosis": pytest.approx(-2 / 3),
        "change_outliers": 0.0,
        "unmoved": 0.75,
    }


def test_an_outlier_is_beyond_three_standard_deviations():
    # Eleven zeros and a 12: mean 1, variance (11 + 121)/12 = 11, and 11 > 3 * 3.317.
    # Nine zeros and a 10: mean 1, variance (9 + 81)/10 = 9, and 9 is not above 3 * 3.
    for zeros, outliers in ((11, 1 / 12), (9, 0.0)):
        now = torch.tensor([[0.0] * zeros + [zeros + 1.0]])
        assert figures(now, now)["outliers"] == pytest.approx(outliers)


def test_a_gaussian_looks_like_one():
    # Of n = 250,000: the kurtosis' standard error is sqrt(24/n) = 0.0098, that of the share of
    # outliers sqrt(0.0027/n) = 0.0001.
    now = torch.randn(500, 500, generator=torch.Generator().manual_seed(0)) * 0.02 + 5.0
    told = figures(now, now)
    assert told["std"] == pytest.approx(0.02, rel=0.006)
    assert told["kurtosis"] == pytest.approx(0.0, abs=0.04)
    assert told["outliers"] == pytest.approx(0.0027, abs=0.0004)


def test_what_did_not_move_has_no_kurtosis_and_no_outliers():
    now = torch.full((3, 3), 0.1)
    told = figures(now, now)
    assert told["unmoved"] == 1.0 and told["change_std"] == told["std"] == 0.0
    assert told["outliers"] == told["change_outliers"] == 0.0
    assert not {"kurtosis", "change_kurtosis"} & told.keys()


@pytest.mark.parametrize(("dtype", "unmoved"), [(torch.float32, 0.0), (torch.bfloat16, 1.0)])
def test_small_updates_are_lost_in_bfloat16(dtype: torch.dtype, unmoved: float):
    # Around 0.02 the numbers of bfloat16 are 2^-13 = 1.2e-4 apart, those of float32 2^-29 = 1.9e-9.
    before = torch.linspace(0.017, 0.03, 64).reshape(8, 8).to(dtype)
    assert figures(before + 5e-7, before)["unmoved"] == unmoved


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-100, 100))
def test_it_does_not_depend_on_how_a_matrix_is_cut(rows: int, chunk: int, mean: float):
    generator = torch.Generator().manual_seed(rows)
    now, before = torch.randn(2, rows, 7, generator=generator).double() + mean
    whole = matrix_sums(now, before)
    kept = weight_spread.CHUNK
    weight_spread.CHUNK = chunk
    try:
        assert torch.allclose(matrix_sums(now, before), whole, rtol=1e-9, atol=0)
    finally:
        weight_spread.CHUNK = kept


def test_layers_are_the_sums_of_their_matrices_each_standardised_for_itself():
    generator = torch.Generator().manual_seed(0)
    small, large = (torch.randn(100, 100, generator=generator) * s for s in (0.01, 1.0))
    still = torch.zeros(50, 50)
    found = spread_figures(
        {
            "model.embed_tokens.weight": matrix_sums(still, still).numpy(),
            "model.layers.0.a.weight": matrix_sums(small, small).numpy(),
            "model.layers.0.b.weight": matrix_sums(large, large).numpy(),
            "model.layers.11.a.weight": matrix_sums(large, large + 1.0).numpy(),
        }
    )
    # A mixture of the two scales has an excess kurtosis of nearly 3; each has nearly 0.
    assert found["weights/kurtosis/0"] == pytest.approx(0.0, abs=0.15)
    assert found["weights/std/0"] == pytest.approx((0.5 * (0.01**2 + 1.0)) ** 0.5, rel=0.02)
    assert found["weights/unmoved/0"] == 1.0 and found["weights/unmoved/11"] == 0.0
    # Two of the three matrices of numbered layers did not move; the embeddings do not count.
    assert found["weights/unmoved"] == pytest.approx(2 / 3)
    assert found["weights/unmoved/embed_tokens"] == 1.0
    assert spread_figures({}) == {}


def test_without_numbered_layers_all_count():
    sums = np.ones(len(COLUMNS))
    assert spread_figures({"score.weight": sums})["weights/unmoved"] == 1.0


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.3.mlp.up_proj.weight", "3"),
        ("transformer.h.12.attn.c_attn.weight", "12"),
        ("model.layers.0.mlp.experts.gate_up_proj", "0"),
        ("model.embed_tokens.weight", "embed_tokens"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_layers_by_name(name: str, layer: str):
    assert layer_of(name) == layer
