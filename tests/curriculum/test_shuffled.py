"""All prompts in turn, and further ones beside them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.curriculum.shuffled import Shuffled, batch_of_prompts
from rlstep.testing.small import small_prompts
from tests.curriculum.kit import draw, ids

PROMPTS = small_prompts(9)


def test_batches_are_what_they_have_always_been() -> None:
    """Written down before there were curricula."""
    found = [ids(Shuffled().choose(PROMPTS, draw(i, size=4, seed=3))) for i in range(3)]
    assert found == GOLDEN
    assert not Shuffled().reads


GOLDEN = [["h", "a", "c", "b"], ["e", "g", "f", "d"], ["i", "h", "a", "c"]]


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(1, 9), st.integers(0, 9), st.integers(0, 3))
def test_further_prompts_leave_the_batch_as_it_is(
    iteration: int, size: int, further: int, seed: int
) -> None:
    chosen = ids(Shuffled().choose(PROMPTS, draw(iteration, size, further, seed)))
    batch = batch_of_prompts(PROMPTS, iteration, size, seed)
    assert chosen[:size] == [prompt.prompt_id for prompt in batch]
    assert len(chosen) == len(set(chosen)) == min(size + further, 9)


def test_more_than_there_are_is_refused() -> None:
    Shuffled().check(PROMPTS, draw(size=5, further=4))
    with pytest.raises(ValueError, match=r"9 training problems; the largest valid further_prompts"
                       r" is 4"):  # fmt: skip
        Shuffled().check(PROMPTS, draw(size=5, further=5))
