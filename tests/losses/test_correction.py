from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rlstep.losses.correction import Correction
from rlstep.losses.dapo import Dapo
from rlstep.losses.reinforce import Reinforce
from tests.losses.policy_gradient_kit import RAGGED_ROWS, Rows, close, one_token, ragged, run

# old - rollout on the trained tokens of `ragged`: weights 1.5 and 4; and 0.25.
SAMPLED: Rows = [[9.0, -math.log(1.5), -math.log(4.0)], [9.0, 9.0, -math.log(0.25)]]


@pytest.mark.parametrize(
    ("correction", "weights", "outside"),
    [
        (Correction(), (1.0, 1.0, 1.0), None),
        (Correction(mode="truncate"), (1.5, 2.0, 0.25), 1 / 3),
        (Correction(mode="truncate", low=0.5, high=5.0), (1.5, 4.0, 0.5), 1 / 3),
        (Correction(mode="mask", low=0.5, high=5.0), (1.5, 4.0, 0.0), 1 / 3),
        (Correction(mode="mask", low=0.5, high=2.0), (1.5, 0.0, 0.0), 2 / 3),
        # Products over the sequences: 1.5 * 4 = 6, and 0.25.
        (Correction(mode="truncate", level="sequence", high=3.0), (3.0, 3.0, 0.25), 2 / 3),
        (Correction(mode="mask", level="sequence", low=0.5, high=6.5), (6.0, 6.0, 0.0), 1 / 3),
    ],
    ids=repr,
)
def test_ragged_masked_worked_by_hand(correction, weights, outside):
    # The gains of `ragged` are rho A = 1, 1.1 and 0.9 * -2 = -1.8, averaged over 3 tokens.
    a, b, c = weights
    loss = Dapo(correction=correction)
    out, gradient = run(loss, ragged(), RAGGED_ROWS, rollout_logprobs=SAMPLED)
    assert out.loss.item() == pytest.approx(-(a + 1.1 * b - 1.8 * c) / 3)
    close(gradient, [[0, -a / 3, -1.1 * b / 3], [0, 0, 1.8 * c / 3]])
    gaps = (math.log(1.5) + math.log(4.0) + math.log(4.0)) / 3
    assert out.metrics["mismatch"].item() == pytest.approx(gaps)
    assert ("mismatch_outside" in out.metrics) == (outside is not None)
    if outside is not None:
        assert out.metrics["mismatch_outside"].item() == pytest.approx(outside)


def test_a_sampler_that_agrees_changes_nothing():
    plain = run(Reinforce(), one_token(1.0), [[0.0, -0.5]])
    for mode in ("truncate", "mask"):
        loss = Reinforce(correction=Correction(mode=mode))
        out, gradient = run(loss, one_token(1.0), [[0.0, -0.5]])
        assert out.loss == plain[0].loss and torch.equal(gradient, plain[1])
        assert out.metrics["mismatch_outside"].item() == 0.0


@pytest.mark.parametrize("mode", ["truncate", "mask"])
@pytest.mark.parametrize("gap", [-20.0, 20.0])
def test_a_long_sequence_far_off_stays_finite(mode, gap):
    # 1,000 tokens of 20 nats: the product is e^20000 or e^-20000, infinite or 0.
    gaps = torch.full((1, 1000), gap)
    mask = torch.ones(1, 1000, dtype=torch.bool)
    weights, metrics = Correction(mode=mode, level="sequence", low=0.5)(gaps, mask)
    bound = 2.0 if gap > 0 else 0.5
    assert (weights == (0.0 if mode == "mask" else bound)).all()
    assert (metrics["mismatch_outside"] == 1.0).all()


def test_it_reads_the_learners_old_logprobs_only_where_it_is_on():
    assert Reinforce().reads == frozenset()
    assert Reinforce(correction=Correction(mode="mask")).reads == {"old_logprobs"}


@pytest.mark.parametrize(("field", "value"), [("low", -0.1), ("low", 1.5), ("high", 0.5)])
def test_bad_values_are_refused(field: str, value: float):
    with pytest.raises(ValueError, match=rf"loss\.correction\.{field} is {value}; .* 1"):
        replace(Correction(), **{field: value})
