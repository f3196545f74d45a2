from __future__ import annotations

import pytest

from rlstep.steps.fixed_length import FixedLengthSplitter
from tests.steps.test_splitters import bounds, completion


def test_steps_worked_by_hand():
    # 7 tokens by 3: 3 + 3 + 1, whatever the text; by 7 and by more: one step.
    made = completion(["a", "\n", "", "b", " ", " ", "c"])
    assert bounds(FixedLengthSplitter(tokens=3), made) == [(0, 3), (3, 6), (6, 7)]
    assert bounds(FixedLengthSplitter(tokens=7), made) == [(0, 7)]
    assert bounds(FixedLengthSplitter(tokens=8), made) == [(0, 7)]


def test_one_token_a_step():
    made = completion(["x"] * 1000)
    assert bounds(FixedLengthSplitter(tokens=1), made) == [(i, i + 1) for i in range(1000)]


def test_a_multiple_leaves_no_empty_step():
    assert bounds(FixedLengthSplitter(tokens=2), completion(["x"] * 4)) == [(0, 2), (2, 4)]


def test_no_length_is_refused():
    with pytest.raises(ValueError, match=r"splitter\.tokens is 0; the smallest valid value is 1"):
        FixedLengthSplitter(tokens=0)
