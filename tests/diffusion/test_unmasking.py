from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.diffusion.unmasking import Pace, Sheet, sheets, unmask, written
from rlstep.types import VersionSpan
from tests.diffusion.kit import CANVAS, Wants, request

ALL = Pace(block=6, tokens=1)


def finished(under_way: list[Sheet], forward: Any, version: int = 0) -> list[list[int]]:
    """Unmask to the end. Returns what each wrote."""
    while live := [sheet for sheet in under_way if sheet.end(CANVAS) is None]:
        unmask(live, forward, CANVAS, version)
    return [written(s, s.end(CANVAS) or 0)[0].tolist() for s in under_way]


def test_the_surest_token_of_a_block_comes_first_and_blocks_left_to_right():
    # Sure of places 5, 3, 4, 2 in this order; blocks of two are 2-3 and 4-5.
    forward = Wants({2: (2, 1.0), 3: (3, 3.0), 4: (4, 2.0), 5: (2, 4.0)})
    asked = sheets(request([2, 2], temperature=0.0), CANVAS, Pace(block=2, tokens=1))
    assert finished(asked, forward) == [[2, 3, 4, 2]]
    assert [seen[0][2:] for seen in forward.seen] == [
        [5, 5, 5, 5],
        [5, 3, 5, 5],
        [2, 3, 5, 5],
        [2, 3, 5, 2],
    ]


def test_all_at_once_begins_anywhere_and_takes_several():
    forward = Wants({2: (2, 1.0), 3: (3, 3.0), 4: (4, 2.0), 5: (2, 4.0)})
    [sheet] = sheets(request([2, 2], temperature=0.0), CANVAS, Pace(block=6, tokens=2))
    unmask([sheet], forward, CANVAS, 0)
    assert sheet.token_ids.tolist() == [2, 2, 5, 3, 5, 2]


def test_an_end_token_ends_it_where_all_before_is_known():
    # The end at place 4 is known first, and what is behind it is no part of the completion.
    forward = Wants({2: (2, 1.0), 3: (3, 2.0), 4: (1, 9.0), 5: (4, 3.0)})
    [sheet] = sheets(request([2, 2], temperature=0.0), CANVAS, ALL)
    unmask([sheet], forward, CANVAS, 0)
    assert sheet.end(CANVAS) is None and sheet.token_ids[4] == 1
    assert finished([sheet], forward) == [[2, 3, 1]]


def test_an_end_before_what_is_hidden_does_not_wait_for_it():
    forward = Wants({2: (1, 9.0)})
    asked = sheets(request([2, 2], temperature=0.0), CANVAS, ALL)
    assert finished(asked, forward) == [[1]] and len(forward.seen) == 1


def test_exactly_so_many_are_written_left_to_right_whatever_ends():
    forward = Wants({2: (1, 1.0), 3: (1, 2.0), 4: (4, 9.0)})
    asked = sheets(request([2, 2], temperature=0.0, min_tokens=3, max_tokens=3), CANVAS, ALL)
    assert finished(asked, forward) == [[1, 1, 4]]
    assert [seen[0][2:] for seen in forward.seen] == [[5, 5, 5, 5], [1, 5, 5, 5], [1, 1, 5, 5]]


def noisy(seen: torch.Tensor) -> torch.Tensor:
    """A forward of its own numbers for every place, the mask token's the highest."""
    logits = torch.arange(36.0).reshape(6, 6).sin().expand(len(seen), 6, 6).clone()
    logits[..., CANVAS.mask] = 50.0
    return logits


@settings(max_examples=20)
@given(
    prefix=st.lists(st.integers(2, 4), min_size=1, max_size=5),
    block=st.integers(1, 6),
    seed=st.integers(0, 2**40),
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
)
def test_what_is_known_never_changes_and_no_mask_is_written(
    prefix: list[int], block: int, seed: int, temperature: float
):
    pace = Pace(block=block, tokens=min(2, block))
    asked = request(prefix, n=2, seed=seed, temperature=temperature)
    under_way = sheets(asked, CANVAS, pace)
    while live := [sheet for sheet in under_way if sheet.end(CANVAS) is None]:
        before = [sheet.token_ids.copy() for sheet in live]
        unmask(live, noisy, CANVAS, 0)
        for old, sheet in zip(before, live, strict=True):
            known = old != CANVAS.mask
            assert (sheet.token_ids[known] == old[known]).all()
            assert (sheet.token_ids != old).sum() >= 1
    for sheet in under_way:
        assert sheet.token_ids[: len(prefix)].tolist() == prefix
        assert CANVAS.mask not in written(sheet, sheet.end(CANVAS) or 0)[0]
    again = sheets(asked, CANVAS, pace)
    alone = [finished([sheet], noisy)[0] for sheet in again]
    assert alone == finished(under_way, noisy)  # by seed, whoever else is written beside


def test_children_and_seeds_differ_and_child_i_has_the_seed_plus_i():
    def written_with(seed: int, n: int) -> list[list[int]]:
        return finished(sheets(request([2], n=n, seed=seed), CANVAS, ALL), noisy)

    several = written_with(7, 8)
    assert len({tuple(each) for each in several}) > 1
    assert written_with(10, 1) == [several[3]]


def test_logprobs_are_of_the_distribution_a_token_was_drawn_from():
    # Two of five tokens (the mask token is none) get e^2: at temperature 2 e / (e + 4).
    forward = Wants({2: (3, 2.0), 3: (3, 2.0), 4: (3, 2.0), 5: (3, 2.0)})
    [sheet] = sheets(request([2, 2], temperature=2.0, seed=1), CANVAS, ALL)
    [tokens] = finished([sheet], forward)
    _, logprobs, _ = written(sheet, sheet.end(CANVAS) or 0)
    sure, other = np.log(np.e / (np.e + 4)), np.log(1 / (np.e + 4))
    expected = [sure if token == 3 else other for token in tokens]
    assert logprobs.tolist() == pytest.approx(expected, abs=1e-6)


def test_every_token_has_the_version_that_wrote_it():
    forward = Wants({2: (2, 1.0), 3: (3, 3.0), 4: (4, 2.0), 5: (2, 4.0)})
    [sheet] = sheets(request([2, 2], temperature=0.0), CANVAS, ALL)
    for version in (3, 3, 4, 4):  # places 5, 3, then 4, 2
        unmask([sheet], forward, CANVAS, version)
    assert written(sheet, sheet.end(CANVAS) or 0)[2] == (
        VersionSpan(version=4, start=0, end=1),
        VersionSpan(version=3, start=1, end=2),
        VersionSpan(version=4, start=2, end=3),
        VersionSpan(version=3, start=3, end=4),
    )


def test_a_prefix_without_room_is_refused():
    with pytest.raises(ValueError, match="the prefix has 6 tokens, and the model's canvas 6"):
        sheets(request([2] * 6), CANVAS, ALL)
