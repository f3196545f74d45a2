from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlstep.interfaces import LabelBatch
from rlstep.losses.value import ValueLoss
from rlstep.tensors.batching import count
from rlstep.types import LabelSamples, Sequence
from tests.builders import make_batch, make_sequence, pad_rows
from tests.losses.policy_gradient_kit import Rows, close


def samples_of(sequences: list[Sequence], returns: Rows, weights: Rows) -> LabelSamples:
    return LabelSamples(
        sequences=tuple(sequences),
        targets=tuple(np.array(row, dtype=np.float32) for row in returns),
        weights=tuple(np.array(row, dtype=np.float32) for row in weights),
    )


def run(loss: ValueLoss, samples: LabelSamples, rows: Rows, old: Rows | None = None):
    predictions = pad_rows(rows)
    batch = make_batch(samples)
    assert isinstance(batch, LabelBatch)
    if old is not None:
        batch = replace(batch, old_logprobs=pad_rows(old).detach())
    out = loss(predictions, batch, count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


def one_token(target: float) -> LabelSamples:
    return samples_of([make_sequence("a", [1])], [[0, target]], [[0, 1]])


def test_one_token_worked_by_hand():
    # (1.5 - -2)^2 = 12.25, gradient 2 * 3.5 = 7. Returns may be negative.
    out, gradient = run(ValueLoss(), one_token(-2.0), [[9.0, 1.5]])
    assert out.loss.item() == 12.25
    assert gradient.tolist() == [[0.0, 7.0]]
    assert out.metrics["value_error"].item() == 3.5
    assert (out.metrics["value_mean"].item(), out.metrics["return_mean"].item()) == (1.5, -2.0)


def test_ragged_masked_weighted_worked_by_hand():
    # Errors 1 (weight 1), -2 (weight 1); and 3 (weight 2) behind a masked step:
    # (1 + 4 + 2 * 9) / 4 = 5.75; gradients 2 w error / 4.
    samples = samples_of(
        [make_sequence("0", [2]), make_sequence("1", [1, 1], masked_steps=[0])],
        [[0, 1, 2], [0, 9, -1]],
        [[0, 1, 1], [0, 9, 2]],
    )
    out, gradient = run(ValueLoss(), samples, [[7.0, 2.0, 0.0], [7.0, 7.0, 2.0]])
    assert out.loss.item() == 5.75
    close(gradient, [[0, 0.5, -1], [0, 0, 3]])


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope", "clipped"),
    [
        # old 0, clip 0.5. 1 moved past 0.5: max((1 - 2)^2, (0.5 - 2)^2) = 2.25, no gradient.
        (1.0, 2.0, 2.25, 0.0, 1.0),
        # The same move away from the return: max((1 + 1)^2, (0.5 + 1)^2) = 4, gradient 2 * 2.
        (1.0, -1.0, 4.0, 4.0, 0.0),
        # Inside: (0.25 - 2)^2, gradient 2 * -1.75.
        (0.25, 2.0, 3.0625, -3.5, 0.0),
    ],
)
def test_clipping_worked_by_hand(value, target, loss, slope, clipped):
    out, gradient = run(ValueLoss(clip=0.5), one_token(target), [[0.0, value]])
    assert out.loss.item() == pytest.approx(loss)
    assert gradient[0, 1].item() == pytest.approx(slope)
    assert out.metrics["clip_fraction"].item() == clipped


def test_clipping_is_around_the_old_value():
    # old 3, clip 0.5: 4 counts as 3.5, (3.5 - 5)^2.
    out, _ = run(ValueLoss(clip=0.5), one_token(5.0), [[0.0, 4.0]], old=[[0.0, 3.0]])
    assert out.loss.item() == pytest.approx(2.25)


def test_it_reads_old_values_only_to_clip():
    assert ValueLoss().reads == frozenset() and ValueLoss(clip=0.2).reads == {"old_logprobs"}


def test_no_weight_is_exactly_zero():
    silent = samples_of([make_sequence("a", [1])], [[0, 3]], [[0, 0]])
    out, gradient = run(ValueLoss(clip=0.5), silent, [[0.0, 20.0]])
    assert out.loss.item() == 0.0 and (gradient == 0.0).all()


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"loss\.clip is -0.1; the smallest valid value is 0"):
        ValueLoss(clip=-0.1)
