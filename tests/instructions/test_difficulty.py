from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.instructions.difficulty import (
    Difficulty,
    Example,
    begin_token,
    difficulties,
    hardest,
)
from rlstep.types import Failure, Floats, TokenIds

BEGIN = 1


def ids(*tokens: int) -> TokenIds:
    return np.array(tokens, np.int32)


def floats(*values: float) -> Floats:
    return np.array(values, np.float32)


# A template token (90) before the question and one (91) behind it.
EXAMPLE = Example(prompt=ids(BEGIN, 90, 5, 6, 91), question=ids(5, 6), answer=ids(7, 8, 9))


def test_what_the_model_reads() -> None:
    whole, question, answer = EXAMPLE.rows(BEGIN)
    assert whole.tolist() == [BEGIN, 90, 5, 6, 91, 7, 8, 9]
    assert (question.tolist(), answer.tolist()) == ([BEGIN, 5, 6], [BEGIN, 7, 8, 9])


def test_worked_by_hand() -> None:
    # L(A|Q) = (1 + 2 + 3) / 3 = 2; L(Q) = (0.5 + 1.1) / 2 = 0.8; L(A) = (6 + 3 + 3) / 3 = 4.
    # IFD = 2 / 4; IC-IFD = 2 / (0.8 * 4) = 0.625. Without its first token L(A) would be 3, and L(Q)
    # 1.1; the 7s and 8s are the template's and the question's in front of the answer.
    rows = [
        floats(0, -7, -8, -8, -7, -1, -2, -3),
        floats(0, -0.5, -1.1),
        floats(0, -6, -3, -3),
    ]
    found = EXAMPLE.difficulty(rows)
    assert isinstance(found, Difficulty)
    assert found.conditional == pytest.approx(2.0)
    assert found.question == pytest.approx(0.8) and found.answer == pytest.approx(4.0)
    assert found.ifd == pytest.approx(0.5) and found.ic_ifd == pytest.approx(0.625)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([floats(-1, -1, -1), floats(0, -1), floats(0, 0, 0)], "certain"),
        ([floats(-1, -1, -1), floats(0, 0), floats(0, -1, -1)], "certain"),
        ([floats(-1, -1, np.nan), floats(0, -1), floats(0, -1, -1)], "not_finite"),
        ([floats(-1, -np.inf, -1), floats(0, -1), floats(0, -1, -1)], "not_finite"),
    ],
)
def test_what_has_no_number_is_a_failure(rows: list[Floats], reason: str) -> None:
    example = Example(prompt=ids(1), question=ids(5), answer=ids(7, 8))
    found = example.difficulty(rows)
    assert isinstance(found, Failure) and found.reason == reason


@pytest.mark.parametrize("empty", ["prompt", "question", "answer"])
def test_an_empty_part_is_a_failure(empty: str) -> None:
    parts = {"prompt": ids(1), "question": ids(5), "answer": ids(7)} | {empty: ids()}
    [found] = difficulties([Example(**parts)], bigram, BEGIN)
    assert isinstance(found, Failure) and found.reason == "empty"


TABLE = np.log(np.random.default_rng(0).dirichlet(np.ones(12), 12))


def bigram(rows: Sequence[TokenIds]) -> list[Floats]:
    """A model of 12 tokens that reads the last one only; what it says of the first is 0."""
    return [np.array([0.0, *(TABLE[a, b] for a, b in pairwise(row))], np.float32) for row in rows]


tokens = st.lists(st.integers(0, 11), min_size=1, max_size=6)


@given(tokens, tokens, tokens, st.integers(0, 11))
def test_the_template_is_in_no_mean(
    question: list[int], answer: list[int], before: list[int], last: int
) -> None:
    """Two templates that end alike give this model the same numbers, whatever stands in them; and
    the means are those of a model that reads one token back."""

    def found(prompt: list[int]) -> Difficulty:
        example = Example(prompt=ids(*prompt), question=ids(*question), answer=ids(*answer))
        [one] = difficulties([example], bigram, BEGIN)
        assert isinstance(one, Difficulty)
        return one

    short, long = found([*question, last]), found([*before, *question, *before, last])
    assert short == long
    by_hand = [-TABLE[a, b] for a, b in zip([BEGIN, *question], question, strict=False)]
    assert short.question == pytest.approx(np.mean(by_hand), rel=1e-5)
    by_hand = [-TABLE[a, b] for a, b in zip([last, *answer], answer, strict=False)]
    assert short.conditional == pytest.approx(np.mean(by_hand), rel=1e-5)


@given(tokens, tokens)
def test_a_mean_and_no_sum(question: list[int], answer: list[int]) -> None:
    """An answer whose tokens come twice, at the same logprobs, is as hard as before."""
    rows = [floats(0, *[-float(t + 1) for t in part]) for part in (answer, question, answer)]
    twice = [np.concatenate([row, row[1:]]) for row in rows]
    one = Example(prompt=ids(1), question=ids(*question), answer=ids(*answer))
    two = Example(prompt=ids(1), question=ids(*question * 2), answer=ids(*answer * 2))
    a, b = one.difficulty(rows), two.difficulty(twice)
    assert isinstance(a, Difficulty) and isinstance(b, Difficulty)
    assert a.ic_ifd == pytest.approx(b.ic_ifd) and a.ifd == pytest.approx(1.0)


# --- ranks ---------------------------------------------------------------------------------------


def test_the_highest_are_kept_in_their_own_order() -> None:
    scores = [0.2, Failure(reason="certain"), 0.9, 0.5, 0.9, 0.1]
    assert hardest(scores, 0.4) == [2, 4]  # two of five
    assert hardest(scores, 0.5) == [2, 3, 4]  # 2.5, rounded up
    assert hardest(scores, 0.2) == [2]  # of equals the first
    assert hardest(scores, 1.0) == [0, 2, 3, 4, 5]
    assert hardest([0.0] * 10, 0.3) == [0, 1, 2]  # 0.3 * 10 is a little over 3
    assert hardest([Failure(reason="empty")], 0.5) == []


@given(st.lists(st.floats(0, 10), max_size=12), st.floats(0.01, 1.0))
def test_nothing_that_is_left_out_is_harder(scores: list[float], share: float) -> None:
    kept = hardest(scores, share)
    left = [s for i, s in enumerate(scores) if i not in kept]
    assert not kept or not left or min(scores[i] for i in kept) >= max(left)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share is .*; the nearest valid value is"):
        hardest([1.0], share)


# --- models --------------------------------------------------------------------------------------


def test_the_begin_token() -> None:
    assert begin_token(SimpleNamespace(bos_token_id=0, eos_token_id=2)) == 0
    assert begin_token(SimpleNamespace(bos_token_id=None, eos_token_id=2)) == 2
    with pytest.raises(ValueError, match="tokenizer has no begin token"):
        begin_token(SimpleNamespace())


def test_logprobs_of_a_real_model() -> None:
    from rlstep.instructions.model_logprobs import ModelLogprobs

    folder = Path(__file__).parents[2] / "recipes" / "policies" / "arithmetic"
    model = ModelLogprobs(str(folder), batch=4)
    every = [ids(1, token) for token in range(model.vocabulary)]
    found = model(every)
    assert [row[0] for row in found] == [0.0] * len(every)
    assert sum(np.exp(row[1]) for row in found) == pytest.approx(1.0, abs=1e-5)
    # A row's numbers are its own, whatever stands beside it in a batch.
    rows = [ids(*range(2, 2 + length)) for length in (9, 3, 1, 6, 2, 7)]
    together = model(rows)
    for row, numbers in zip(rows, together, strict=True):
        assert np.allclose(numbers, model([row])[0], atol=1e-5) and len(numbers) == len(row)
