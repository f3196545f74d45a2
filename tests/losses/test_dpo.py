from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlstep.interfaces import PairBatch
from rlstep.losses.dpo import Dpo
from rlstep.losses.step_dpo import StepDpo
from rlstep.tensors.batching import collate, count
from tests.builders import make_batch, make_sequence, pad_rows, zero_logprobs
from tests.losses.pairwise import pairs


def test_one_pair_worked_by_hand():
    # Delta(chosen) = 1, Delta(rejected) = -1, beta 0.5: h = 0.5 (1 + 1) = 1,
    # loss = -ln sigmoid(1) = ln(1 + e^-1) = 0.313262.
    samples = pairs(make_sequence("c", [1]), make_sequence("r", [1]))
    predictions = pad_rows([[0.0, 1.0], [0.0, -1.0]])
    out = Dpo(beta=0.5)(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(0.313262, abs=1e-6)
    out.loss.backward()
    # d/dDelta(chosen) = -beta sigmoid(-h) = -0.5 * 0.268941 = -0.134471, the other side +0.134471.
    assert predictions.grad is not None
    expected = torch.tensor([[0.0, -0.134471], [0.0, 0.134471]], dtype=torch.float64)
    torch.testing.assert_close(predictions.grad, expected, atol=1e-6, rtol=0)
    assert {name: value.item() for name, value in out.metrics.items()} == pytest.approx(
        {
            "pair_accuracy": 1.0,
            "margin": 1.0,
            "chosen_logprob_change": 1.0,
            "rejected_logprob_change": -1.0,
        }
    )


def test_ragged_masked_pairs_worked_by_hand():
    # Three sequences, two pairs (0, 1), (0, 2); step 0 of sequence 1 is masked.
    # policy - ref: s0 = (0.5 - 0.25) + (1 - 0.25) = 1; s1 = only 0.5 counts; s2 = -1 + 0 + 2 = 1.
    # beta 2: h01 = 2 (1 - 0.5) = 1, h02 = 2 (1 - 1) = 0.
    # loss = (0.313262 + 0.693147) / 2 = 0.503204.
    samples = pairs(
        make_sequence("0", [2]),
        make_sequence("1", [1, 1], masked_steps=[0]),
        make_sequence("2", [1, 2]),
        places=((0, 1), (0, 2)),
    )
    ref = [np.array(row, dtype=np.float32) for row in ([9, 0.25, 0.25], [0, 5, 0], [0, 0, 0, 0])]
    batch = collate(samples, zero_logprobs(samples), ref)
    assert isinstance(batch, PairBatch)
    predictions = pad_rows([[3.0, 0.5, 1.0], [0.0, -40.0, 0.5], [0.0, -1.0, 0.0, 2.0]])
    out = Dpo(beta=2.0)(predictions, batch, count(samples))
    assert out.loss.item() == pytest.approx(0.503204, abs=1e-6)
    assert out.metrics["pair_accuracy"].item() == 0.5
    assert out.metrics["margin"].item() == pytest.approx(0.5)


def test_label_smoothing_worked_by_hand():
    # h = 1, e = 0.25: 0.75 * 0.313262 + 0.25 * 1.313262 = 0.563262.
    samples = pairs(make_sequence("c", [1]), make_sequence("r", [1]))
    predictions = pad_rows([[0.0, 1.0], [0.0, -1.0]])
    loss = Dpo(beta=0.5, label_smoothing=0.25)
    out = loss(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(0.563262, abs=1e-6)


def test_swapping_the_pair_negates_h():
    # -ln sigmoid(-1) = 1.313262.
    samples = pairs(make_sequence("c", [1]), make_sequence("r", [1]), places=((1, 0),))
    predictions = pad_rows([[0.0, 1.0], [0.0, -1.0]])
    out = Dpo(beta=0.5)(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(1.313262, abs=1e-6)


def test_tokens_are_summed_not_averaged():
    # Two tokens of 0.5 are a Delta of 1, as one token of 1 is.
    samples = pairs(make_sequence("c", [2]), make_sequence("r", [1]))
    predictions = pad_rows([[0.0, 0.5, 0.5], [0.0, -1.0]])
    out = Dpo(beta=0.5)(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(0.313262, abs=1e-6)


def test_the_divisor_is_the_global_number_of_pairs():
    samples = pairs(make_sequence("c", [1]), make_sequence("r", [1]))
    counts = replace(count(samples), pairs=4)
    out = Dpo()(pad_rows([[0.0, 0.0], [0.0, 0.0]]), make_batch(samples), counts)
    assert out.loss.item() == pytest.approx(math.log(2.0) / 4)


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [("beta", -0.1, "0"), ("beta", math.nan, "0"), ("label_smoothing", 0.5, "0.5")],
)
def test_bad_values_are_refused(field: str, value: float, nearest: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is .*{nearest}"):
        replace(Dpo(), **{field: value})


def test_step_dpo_with_an_empty_prefix_and_the_whole_answer_as_the_step_is_dpo():
    samples = pairs(make_sequence("c", [3]), make_sequence("r", [2]))
    predictions = pad_rows([[0.0, 1.0, -2.0, 0.25], [0.0, -1.0, 0.5]])
    batch, counts = make_batch(samples), count(samples)
    step, whole = StepDpo(beta=0.3), Dpo(beta=0.3)
    assert step(predictions, batch, counts).loss == whole(predictions, batch, counts).loss


def test_step_dpo_prefix_has_exactly_zero_gradient():
    # Steps of 2 and 1 tokens; only the second is trained. Delta = 1 and -1 there, beta 0.5, so the
    # loss is the 0.313262 of above whatever the prefix says.
    samples = pairs(
        make_sequence("c", [2, 1], masked_steps=[0]), make_sequence("r", [2, 2], masked_steps=[0])
    )
    predictions = pad_rows([[0.0, 7.0, 8.0, 1.0], [0.0, -3.0, 2.0, -0.5, -0.5]])
    out = StepDpo(beta=0.5)(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(0.313262, abs=1e-6)
    out.loss.backward()
    assert predictions.grad is not None
    assert predictions.grad[:, :3].abs().max() == 0.0
    assert predictions.grad[0, 3] < 0.0 < predictions.grad[1, 3]


def test_step_dpo_of_equal_steps_is_ln_2():
    samples = pairs(make_sequence("c", [1, 1], masked_steps=[0]), make_sequence("r", [1]))
    predictions = pad_rows([[0.0, 5.0, -0.75], [0.0, -0.75]])
    out = StepDpo()(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(math.log(2.0))
