from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.measuring.aggregate import best_of_n, weighted_vote
from rlstep.measuring.sampled import (
    Sample,
    SampledProblem,
    best_of,
    curves,
    problem_rates,
    vote_by,
    vote_rates,
)


def sample(value: float | None, answer: str, *scores: float) -> Sample:
    return Sample(value=value, answer=answer, scores={"prm": scores} if scores else {})


def problem(*samples: Sample) -> SampledProblem:
    return SampledProblem(prompt_id="p", samples=samples)


# --- votes ---------------------------------------------------------------------------------------


def votes(answers: list[str], weights: list[float], right: str, ks: list[int]) -> list[float]:
    outcomes = np.array([float(answer == right) for answer in answers])
    return vote_rates(answers, np.array([weights]), outcomes, ks)[0].tolist()


def test_a_majority_worked_by_hand():
    # Answers 7, 9, 9; 9 is right. One chain: 2/3. Two: in order (7,9) and (9,7) the first of two
    # equals wins, so 4 orders of 6 begin with a 9 and the 2 with 7 first have 7 win: 4/6. Three: 9.
    assert votes(["7", "9", "9"], [1, 1, 1], "9", [1, 2, 3]) == pytest.approx([2 / 3, 4 / 6, 1.0])


def test_a_weighted_vote_worked_by_hand():
    # '7' weighs 0.7, each '9' 0.4. Two chains: (7, 9) is won by 7, of the three pairs one is
    # (9, 9): 1/3. All three: 0.8 for 9.
    assert votes(["7", "9", "9"], [0.7, 0.4, 0.4], "9", [2, 3]) == pytest.approx([1 / 3, 1.0])


def test_what_has_no_answer_casts_no_vote():
    # One of three chains has an answer, and it is right: 1/3 of single chains, 2/3 of pairs.
    assert votes(["", "9", ""], [5, 1, 5], "9", [1, 2, 3]) == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert votes(["", ""], [1, 1], "9", [1, 2, 3])[:2] == [0.0, 0.0]


def test_small_weights_are_no_ties():
    # As products of long chains have them: 2e-12 against 1e-12.
    assert votes(["7", "9"], [1e-12, 2e-12], "9", [2]) == [1.0]


CHAINS = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3"]), st.sampled_from([0.25, 0.5, 1.0])),
    min_size=1,
    max_size=5,
)


@given(CHAINS, st.integers(1, 5))
def test_a_vote_is_that_of_every_order(rows: list[tuple[str, float]], k: int):
    k = min(k, len(rows))
    won = [
        float(weighted_vote(*zip(*order[:k], strict=True)) == "1") for order in permutations(rows)
    ]
    found = votes([a for a, _ in rows], [w for _, w in rows], "1", [k])
    assert found == pytest.approx([np.mean(won)])


@given(st.lists(st.sampled_from(["1", "2"]), min_size=6, max_size=40))
def test_one_vote_is_a_chain_and_all_are_the_majority(answers: list[str]):
    n = len(answers)
    ones = answers.count("1")
    single, everyone = votes(answers, [1.0] * n, "1", [1, n])
    assert single == pytest.approx(ones / n)  # orders are rotated: every chain comes first
    if 2 * ones != n:
        assert everyone == float(2 * ones > n)


# --- one problem ---------------------------------------------------------------------------------


def test_one_problem_worked_by_hand():
    """Four samples, two right; the PRM's steps put a wrong one first by 'last' and a right one by
    'min'."""
    rates = problem_rates(
        problem(
            sample(1.0, "9", 0.8, 0.7),
            sample(0.0, "7", 0.1, 0.9),
            sample(1.0, "9", 0.5, 0.5),
            sample(0.0, "8", 0.2, 0.6),
        ),
        [1, 2, 4],
    )
    # pass@2 = 1 - C(2, 2) / C(4, 2) = 5/6.
    assert rates["pass"] == pytest.approx([0.5, 5 / 6, 1.0])
    assert rates["accuracy"] == pytest.approx([0.5, 0.5, 0.5])
    # min: 0.7, 0.1, 0.5, 0.2, so the order is right, right, wrong, wrong: of the six pairs only
    # (wrong, wrong) is lost.
    assert rates[best_of("prm", "min")] == pytest.approx([0.5, 5 / 6, 1.0])
    # last: 0.7, 0.9, 0.5, 0.6: wrong (0.9) wins its three pairs, right (0.7) two, wrong (0.6) one.
    assert rates[best_of("prm", "last")] == pytest.approx([0.5, 2 / 6, 0.0])
    # Votes by last, all four: 9 has 1.2, 7 has 0.9, 8 has 0.6.
    assert rates[vote_by("prm", "last")][-1] == 1.0
    assert rates["majority"][-1] == 1.0


def test_what_was_not_verified_is_neither_right_nor_wrong():
    rates = problem_rates(problem(sample(1.0, "9"), sample(None, ""), sample(0.0, "7")), [1, 2, 3])
    assert rates["accuracy"] == pytest.approx([0.5, 0.5, 0.5])
    assert rates["pass"][:2] == pytest.approx([0.5, 1.0]) and np.isnan(rates["pass"][2])


def test_what_a_source_did_not_score_is_not_chosen_by_it():
    rates = problem_rates(
        problem(sample(1.0, "9"), sample(0.0, "7", 0.5), sample(0.0, "7", float("nan"))), [1, 2]
    )
    best = rates[best_of("prm", "mean")]
    assert best[0] == 0.0 and np.isnan(best[1])


def test_a_score_of_the_whole_has_no_aggregate():
    whole = [Sample(value=v, answer="9", scores={"reward": s}) for v, s in ((1.0, 0.2), (0.0, 3.0))]
    rates = problem_rates(SampledProblem(prompt_id="p", samples=whole), [2])
    assert rates["reward/best/whole"] == [0.0]
    assert not [name for name in rates if name.endswith("/min")]


OUTCOMES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=5
)


@given(OUTCOMES)
def test_laws_of_the_curves(rows: list[tuple[bool, float]]):
    """Of few samples, whose orders are all looked at."""
    samples = [sample(float(right), "9" if right else "7", score) for right, score in rows]
    ks = list(range(1, len(rows) + 1))
    rates = problem_rates(problem(*samples), ks)
    backwards = problem_rates(problem(*reversed(samples)), ks)
    for name, values in rates.items():
        assert backwards[name] == pytest.approx(values, abs=1e-9)  # the order decides nothing
        assert values[0] == pytest.approx(rates["accuracy"][0])  # of one sample there is no choice
        assert (values <= rates["pass"] + 1e-9).all()  # nobody is better than the oracle
    assert (np.diff(rates["pass"]) >= -1e-12).all()


@given(OUTCOMES, st.integers(1, 5))
def test_best_of_k_is_the_mean_over_subsets(rows: list[tuple[bool, float]], k: int):
    k = min(k, len(rows))
    best = []
    for chosen in combinations(rows, k):
        top = max(score for _, score in chosen)
        best.append(np.mean([right for right, score in chosen if score == top]))
    # Where scores are equal, those of one subset share, as all equals do over all subsets.
    scores, outcomes = [s for _, s in rows], [float(r) for r, _ in rows]
    assert best_of_n(scores, outcomes, k) == pytest.approx(np.mean(best))


# --- over problems -------------------------------------------------------------------------------


def test_errors_are_by_problem():
    """Problems of 1, 0 and 1/2: mean 1/2, standard deviation 1/2, over the root of 3."""
    right, wrong = sample(1.0, "9"), sample(0.0, "7")
    found = curves([problem(right, right), problem(wrong, wrong), problem(right, wrong)], [1, 2])
    [one, two] = found["pass"]
    assert (one.k, one.value, one.problems) == (1, 0.5, 3)
    assert one.standard_error == pytest.approx(0.5 / np.sqrt(3))
    assert two.value == pytest.approx(2 / 3)


def test_a_problem_with_too_few_samples_is_not_counted():
    found = curves([problem(sample(1.0, "9")), problem(sample(0.0, "7"), sample(0.0, "7"))], [1, 2])
    assert [(p.value, p.problems) for p in found["pass"]] == [(0.5, 2), (0.0, 1)]
    assert found["pass"][1].standard_error is None
    assert [p.problems for p in found["accuracy"]] == [2, 2]
