from __future__ import annotations

import pytest
import torch

from rlstep.losses.means import ConstantLength, Mean, SequenceMean, TokenMean, row_means
from rlstep.types import Counts

# Sequences of 3, 1 and 0 trained tokens; 9 and NaN stand where nothing is trained.
VALUES = torch.tensor(
    [[9.0, 1.0, 2.0, 6.0], [torch.nan, 9.0, 5.0, 9.0], [9.0, 9.0, 9.0, torch.nan]]
)
MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
COUNTS = Counts(sequences=2, tokens=4)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (TokenMean(), 3.5),  # (1 + 2 + 6 + 5) / 4
        (SequenceMean(), 4.0),  # ((1 + 2 + 6) / 3 + 5) / 2: the third sequence does not count
        (ConstantLength(length=7), 1.0),  # (1 + 2 + 6 + 5) / (2 * 7)
    ],
)
def test_worked_by_hand(mean: Mean, expected: float):
    assert mean(VALUES, MASK, COUNTS).item() == pytest.approx(expected)


def test_row_means_worked_by_hand():
    assert row_means(VALUES, MASK).tolist() == [3.0, 5.0, 0.0]


@pytest.mark.parametrize("mean", [TokenMean(), SequenceMean(), ConstantLength()], ids=repr)
def test_parts_add_up_and_nothing_is_zero(mean: Mean):
    parts = [mean(VALUES[i : i + 1], MASK[i : i + 1], COUNTS) for i in range(3)]
    torch.testing.assert_close(sum(parts), mean(VALUES, MASK, COUNTS))
    assert mean(VALUES, torch.zeros_like(MASK), Counts(sequences=0, tokens=0)).item() == 0.0


def test_a_bad_length_is_refused():
    with pytest.raises(ValueError, match=r"loss\.mean\.length is 0; the smallest valid value is 1"):
        ConstantLength(length=0)
