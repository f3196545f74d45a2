from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import pytest
import torch

from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.tensors.batching import count
from rlstep.types import LabelSamples, Sequence
from tests.builders import make_batch, make_sequence, pad_rows


def samples_of(
    sequences: list[Sequence], weights: Seq[Seq[float]], targets: Seq[Seq[float]]
) -> LabelSamples:
    return LabelSamples(
        sequences=tuple(sequences),
        targets=tuple(np.array(row, dtype=np.float32) for row in targets),
        weights=tuple(np.array(row, dtype=np.float32) for row in weights),
    )


def test_one_sequence_worked_by_hand():
    # (1 + 3) / 2 = 2.
    samples = samples_of([make_sequence("a", [2])], [[0, 1, 1]], [[0, 1, 1]])
    out = CrossEntropy()(pad_rows([[0.0, -1.0, -3.0]]), make_batch(samples), count(samples))
    assert out.loss.item() == 2.0
    assert out.metrics["nll"].item() == 2.0


def test_ragged_masked_weighted_worked_by_hand():
    # Trained: token 1 of a (weight 1), token 2 of b (weight 3; its first step is masked).
    # (1 * 2 + 3 * 4) / 4 = 3.5; gradients -1/4 and -3/4.
    samples = samples_of(
        [make_sequence("a", [1]), make_sequence("b", [1, 1], masked_steps=[0])],
        [[0, 1], [0, 9, 3]],
        [[0, 1], [0, 1, 1]],
    )
    predictions = pad_rows([[-7.0, -2.0], [-7.0, -70.0, -4.0]])
    out = CrossEntropy()(predictions, make_batch(samples), count(samples))
    assert out.loss.item() == 3.5
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    assert gradient.tolist() == [[0.0, -0.25, 0.0], [0.0, 0.0, -0.75]]


def test_fractional_weights_are_divided_by_their_sum():
    samples = samples_of([make_sequence("a", [1])], [[0, 0.5]], [[0, 1]])
    out = CrossEntropy()(pad_rows([[0.0, -2.0]]), make_batch(samples), count(samples))
    assert out.loss.item() == pytest.approx(2.0)
