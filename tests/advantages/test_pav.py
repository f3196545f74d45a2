from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.advantages.pav import Pav
from rlstep.advantages.vine import Vine
from tests.advantages.test_group import columns
from tests.advantages.test_vine import valued
from tests.builders import make_group


def test_one_step_worked_by_hand():
    # Values 1/2 -> 3/4, K = 2: the prover's 3/4 -> 15/16, its advantage 0.1875: 0.75 + 3 * 0.1875.
    rewards = Pav(prover_samples=2).effective_rewards(np.array([0.5, 0.75]))
    assert rewards.tolist() == [1.3125]


def test_a_ragged_group_worked_by_hand():
    # V(s_0) = 1/2; a: 1/2 -> 3/4 -> 1, b: 1/2 -> 0. With K = 2: 3/4 -> 15/16 -> 1 and 3/4 -> 0.
    # a: 1/4 + 2 * 3/16 = 0.625, 1/4 + 2 / 16 = 0.375; b: -1/2 - 2 * 3/4 = -2.
    group = make_group(
        valued("a", 1.0, [0.75, 0.0], steps=[[11], [12, 13]]),
        valued("b", 0.0, [1.0], steps=[[14]]),
    )
    samples = Pav(prover_samples=2, alpha=2.0).samples([group])
    assert columns(samples) == [[0, 0, 0.625, 0.375, 0.375], [0, 0, -2]]


def test_without_a_bonus_or_with_the_policy_as_prover_it_is_vine():
    group = make_group(valued("a", 1.0, [0.75, 0.25, 0.0]), valued("b", 0.0, [0.5, 0.5]))
    vine = np.concatenate(columns(Vine().samples([group])))
    plain = Pav(alpha=0.0).samples([group])
    assert np.concatenate(columns(plain)) == pytest.approx(vine)
    own = Pav(prover_samples=1, alpha=3.0).samples([group])
    assert np.concatenate(columns(own)) == pytest.approx(4 * vine)


@given(
    values=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20).map(np.array),
    k=st.integers(1, 64),
)
def test_the_provers_advantages_telescope(values: np.ndarray, k: int):
    bonus = Pav(prover_samples=k, alpha=1.0).effective_rewards(values) - values[1:]
    whole = (1 - values[0]) ** k - (1 - values[-1]) ** k
    assert bonus.sum() == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_prover_that_always_or_never_solves_adds_nothing(value: float):
    values = np.full(4, value)
    assert Pav().effective_rewards(values).tolist() == values[1:].tolist()


def test_a_prover_that_is_too_strong_sees_no_progress():
    values = np.array([0.5, 0.75])
    assert Pav(prover_samples=1000).effective_rewards(values) == pytest.approx([0.75])


@pytest.mark.parametrize(("name", "value", "least"), [("prover_samples", 0, 1), ("alpha", -1, 0)])
def test_bad_fields(name: str, value: int, least: int):
    fields: dict[str, Any] = {name: value}
    with pytest.raises(
        ValueError, match=rf"advantages\.{name} is {value}; the smallest .* {least}"
    ):
        Pav(**fields)
