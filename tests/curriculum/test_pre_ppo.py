"""Pre-PPO: what is kept of which domain, and when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.curriculum.pre_ppo import PrePpo
from tests.curriculum.kit import draw, ids, measured, prompt

MATH = [prompt(f"m{i}", task="math") for i in range(4)]
POEMS = [prompt(f"p{i}", task="poems") for i in range(4)]
PROMPTS = [*MATH, *POEMS]


def ranked(scores: dict[str, float], seed: int = 0) -> list[str]:
    return [p.prompt_id for p in PrePpo().ranked(PROMPTS, scores, seed)]


def test_ranks_worked_by_hand() -> None:
    # math: 0, 1, 1, 2 has mean 1, variance (1 + 0 + 0 + 1) / 4 = 1/2: z = -1.41, 0, 0, 1.41.
    # poems: 10, 10, 10, 30 has mean 15, variance (3 * 25 + 225) / 4 = 75: z = -0.577 thrice, 1.73.
    math = {"m0": 0.0, "m1": 1.0, "m2": 1.0, "m3": 2.0}
    poems = {"p0": 10.0, "p1": 10.0, "p2": 30.0, "p3": 10.0}
    order = ranked({**math, **poems})
    assert order[0] == "m0" and set(order[1:4]) == {"p0", "p1", "p3"}
    assert set(order[4:6]) == {"m1", "m2"} and order[6:] == ["m3", "p2"]


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 8), min_size=4, max_size=4),
    st.floats(0.01, 100),
    st.floats(-100, 100),
)
def test_a_domains_unit_and_level_change_nothing(raw: list[int], scale: float, shift: float):
    """So one of low raw scores is not over-selected."""
    math = {f"m{i}": float(x) for i, x in enumerate(raw)}
    same = {f"p{i}": float(x) for i, x in enumerate(raw)}
    moved = {name: scale * x + shift for name, x in same.items()}
    where = PrePpo().ranked(PROMPTS, {**math, **moved}, 0)
    for number in (2, 4, 6):  # of equal domains as many are kept, but for ties
        kept = [p.prompt_id for p in where[:number]]
        value = {**math, **same}
        inside = [sum(value[k] < value[where[number].prompt_id] for k in kept if k[0] == d)
                  for d in "mp"]  # fmt: skip
        assert inside[0] == inside[1]


def test_without_variance_a_domain_is_neither_hard_nor_easy() -> None:
    order = ranked({"m0": 0.0, "m1": 1.0, **{f"p{i}": 0.0 for i in range(4)}})
    assert order[0] == "m0" and order[-1] == "m1"


def test_ties_go_by_the_seed_and_by_nothing_else() -> None:
    equal = {p.prompt_id: 0.5 for p in PROMPTS}
    orders = [ranked(equal, seed) for seed in range(20)]
    assert ranked(dict(reversed(equal.items())), 3) == orders[3]
    assert len({tuple(order) for order in orders}) > 10
    assert {order[0][0] for order in orders} == {"m", "p"}  # no domain comes first by its name


def test_phases_worked_by_hand() -> None:
    """First math alone, then all once, then of a batch of 4 half from the 2 that are kept."""
    chooser = PrePpo(share=0.25, hard=0.5, first=("math",), early=2)
    for iteration in (0, 1):
        assert set(ids(chooser.choose(PROMPTS, draw(iteration, size=4)))) == {"m0", "m1", "m2",
                                                                              "m3"}  # fmt: skip
    epoch = [ids(chooser.choose(PROMPTS, draw(i, size=4))) for i in (2, 3)]
    assert sorted(epoch[0] + epoch[1]) == sorted(p.prompt_id for p in PROMPTS)
    seen = measured(2, m0=0, m1=8, m2=8, m3=8) + measured(3, p0=1, p1=2, p2=2, p3=0)
    for iteration in range(4, 12):
        choice = chooser.choose(PROMPTS, draw(iteration, size=4, further=1, measured=seen))
        # z of m0 is -1.73, of p3 (0.5 of mean 1.25 in eighths: -1.51) the second lowest.
        assert choice.metrics == {"hard": 0.5, "kept": 2}
        assert set(ids(choice)[:2]) == {"m0", "p3"} and len(set(ids(choice))) == 4
    # The newest score counts: once m0 is solved, p0 is the hardest but one.
    seen += measured(4, m0=8, p3=0)
    choice = chooser.choose(PROMPTS, draw(5, size=4, measured=seen))
    assert set(ids(choice)[:2]) == {"p3", "p0"}


def test_what_was_never_measured_is_among_the_others() -> None:
    chooser = PrePpo(share=0.5, hard=1.0)
    seen = measured(0, m0=0, m1=8)
    choice = chooser.choose(PROMPTS, draw(9, size=4, measured=seen))
    assert ids(choice)[:2] in (["m0", "m1"], ["m1", "m0"]) and len(set(ids(choice))) == 4
    assert choice.metrics == {"hard": 0.5, "kept": 2}
    assert len(set(ids(chooser.choose(PROMPTS, draw(9, size=4))))) == 4  # nothing at all


def test_a_reward_may_rank() -> None:
    chooser = PrePpo(source="reward", share=0.25, hard=1.0)
    assert chooser.reads == {"reward"}
    scores = {"m0": 0.1, "m1": 0.2, "m2": 0.2, "m3": 0.2, "p0": 7.0, "p1": 5.0, "p2": 7.0,
              "p3": 7.0}  # fmt: skip
    choice = chooser.choose(PROMPTS, draw(4, measured=measured(0, **scores)))
    assert set(ids(choice)) == {"m0", "p1"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"domain": "subject"}, r"domain is 'subject', and prompt 'm0' has no such .*\['task'\]"),
        ({"first": ("code",), "early": 1}, r"first has 'code', .* domains \['math', 'poems'\]"),
        ({"first": ("math",), "early": 1}, r"first \('math',\) has 4 training problems, fewer"),
        ({"share": 0.1}, r"keeps 1 of 8 training problems, .* takes 3 .* valid value is 0\.375"),
        ({"share": 0.9}, r"leaves 1 of 8 training problems, .* takes 3 .* give at most 0\.625"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(fields: dict[str, Any], named: str) -> None:
    PrePpo(share=0.5).check(PROMPTS, draw(size=6))
    with pytest.raises(ValueError, match=named):
        PrePpo(**{"share": 0.5, **fields}).check(PROMPTS, draw(size=6))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"share": 1.1}, r"curriculum\.share is 1\.1"),
        ({"hard": -0.1}, r"curriculum\.hard is -0\.1"),
        ({"source": ""}, r"curriculum\.source is ''"),
        ({"domain": ""}, r"curriculum\.domain is ''"),
        ({"early": 2}, r"curriculum\.first is \(\) and curriculum\.early 2; give both"),
        ({"first": ("math",)}, r"curriculum\.first is \('math',\) and curriculum\.early 0"),
    ],
)
def test_bad_settings(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PrePpo(**fields)
