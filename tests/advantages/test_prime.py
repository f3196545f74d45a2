from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.advantages.prime import Prime
from rlstep.advantages.rloo import Rloo
from rlstep.types import Failure, Group
from tests.advantages.test_group import columns
from tests.builders import make_group, make_rollout, make_token_scores
from tests.test_sample_laws import groups, rescored, same


def implicit(name: str, rewards: Seq[float], outcome: float, steps: Any = None, **fields: Any):
    """One-token steps where no others are given."""
    return make_rollout(
        name,
        steps or [[11]] * len(rewards),
        outcome=outcome,
        scores={"implicit": make_token_scores(rewards)},
        **fields,
    )


def test_tokens_worked_by_hand():
    # beta 0.1, log-ratios (2, -1, 3): rewards (0.2, -0.1, 0.3), returns (0.4, 0.2, 0.3). The other
    # has (0.1): the largest |return| is 0.4, so the rewards become (0.5, -0.25, 0.75) and (0.25).
    # Baselines: the other's mean reward, 0.25 and 1/3. First: (0.25, -0.5, 0.5), suffix sums
    # (0.25, 0, 0.5), plus the outcome's 1 - 0. Second: 0.25 - 1/3 - 1.
    group = make_group(implicit("a", [0.2, -0.1, 0.3], 1.0), implicit("b", [0.1], 0.0))
    first, second = columns(Prime().samples([group]))
    assert first == pytest.approx([0, 0, 1.25, 1.0, 1.5], abs=1e-6)
    assert second == pytest.approx([0, 0, 0.25 - 1 / 3 - 1], abs=1e-6)
    # Discounted by 1/2: from the end 0.5, -0.5 + 0.25, 0.25 - 0.125. The returns that normalise are
    # not discounted. Coefficients 2 and 3: 2 * 0.125 + 3.
    half = Prime(gamma=0.5, process_coefficient=2.0, outcome_coefficient=3.0).samples([group])
    assert columns(half)[0] == pytest.approx([0, 0, 3.25, 2.5, 4.0], abs=1e-6)


def test_steps_worked_by_hand():
    # Steps {0, 1} and {2} of (0.2, -0.1, 0.3): (0.1, 0.3), largest return 0.4: (0.25, 0.75); the
    # other's one step of 0.2: 0.5. Baselines 0.5 and 0.5: (-0.25, 0.25), suffix sums (0, 0.25); 0.
    # The outcomes are equal. The branch inherited its first step.
    group = make_group(
        implicit("a", [0.2, -0.1, 0.3], 1.0, steps=[[11, 12], [13]], parent="c", inherited=2),
        implicit("b", [0.1, 0.1], 1.0, steps=[[14, 15]]),
        implicit("x", [9.0], 1.0).with_scores(outcome=Failure(reason="timeout")),
    )
    samples = Prime(level="step").samples([group])
    assert columns(samples)[0] == pytest.approx([0, 0, 0, 0, 0.25], abs=1e-6)
    assert columns(samples)[1] == pytest.approx([0] * 4, abs=1e-6)


def test_the_codes_baseline_worked_by_hand():
    # The first example again: n = 2, so 2 r - (1/3 + 0.25): (1, -0.5, 1.5) - 0.583333 =
    # (0.416667, -1.083333, 0.916667), suffix sums (0.25, -0.166667, 0.916667). The paper's are
    # (0.25, 0, 0.5): the first is the same, since both subtract the same mean over a rollout.
    group = make_group(implicit("a", [0.2, -0.1, 0.3], 0.0), implicit("b", [0.1], 0.0))
    paper, code = (
        columns(Prime(leave_one_out=form).samples([group])) for form in ("paper", "code")
    )
    assert paper[0] == pytest.approx([0, 0, 0.25, 0, 0.5], abs=1e-6)
    assert code[0] == pytest.approx([0, 0, 0.25, -1 / 6, 11 / 12], abs=1e-6)
    assert paper[1] == pytest.approx(code[1], abs=1e-6)


@settings(max_examples=25)
@given(group=groups(branches=False))
def test_paper_and_code_agree_on_whole_rollouts(group: Group):
    """Per-response means agree, tokens do not: the first token's advantage is the same."""
    first = [
        {s.sequence_id: c[2] for s, c in zip(out.sequences, out.advantages, strict=True)}
        for out in (Prime(leave_one_out=form).samples([group]) for form in ("paper", "code"))
    ]
    if first[0].keys() == first[1].keys():  # a group may be silent in one of them only
        assert first[0] == pytest.approx(first[1], abs=1e-5)


@settings(max_examples=25)
@given(group=groups(), scale=st.sampled_from([0.01, 3.0, 1000.0]))
def test_the_scale_of_the_rewards_has_no_effect(group: Group, scale: float):
    def scaled(rollout):
        score = rollout.token_scores("implicit")
        return {"implicit": make_token_scores((scale * score.values).tolist())}

    same(Prime().samples([group]), Prime().samples([rescored(group, scaled)]))


def test_the_largest_return_is_the_batchs():
    # |-4|, a later return of the second group's second rollout, divides all rewards: (0.5) and
    # (0.25) in the first group: 0.25 and -0.25. Second: (0) and (1, -1): baselines 0 and 0.
    groups = [
        make_group(implicit("a", [2.0], 1.0), implicit("b", [1.0], 1.0)),
        make_group(implicit("c", [0.0], 1.0), implicit("d", [4.0, -4.0], 1.0)),
    ]
    samples = Prime().samples(groups)
    assert columns(samples) == [[0, 0, 0.25], [0, 0, -0.25], [0, 0, 0], [0, 0, 0, -1]]


def test_an_untrained_prm_leaves_the_outcomes():
    group = make_group(implicit("a", [0.0, 0.0], 1.0), implicit("b", [0.0], 0.0))
    assert columns(Prime().samples([group])) == columns(Rloo().samples([group]))


def test_twenty_nats_are_finite():
    group = make_group(implicit("a", [20.0, -20.0], 1.0), implicit("b", [-20.0], 0.0))
    samples = Prime().samples([group])
    assert all(np.isfinite(column).all() for column in samples.advantages)
    # Normalised to (1, -1) and (-1); baselines -1 and 0: (2, 0) -> (2, 0); -1. Outcomes +-1.
    assert columns(samples) == [[0, 0, 3, 1], [0, 0, -2]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 1.1), ("process_coefficient", -1.0), ("outcome_coefficient", -1.0)],
)
def test_bad_fields(name: str, value: float):
    fields: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"advantages\.{name} is {value}; the .*est valid value"):
        Prime(**fields)
