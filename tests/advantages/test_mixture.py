from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.mixture import Mixture
from rlstep.advantages.process import ProcessAdvantages
from rlstep.advantages.rloo import Rloo
from rlstep.advantages.vine import Vine
from rlstep.types import Failure
from tests.advantages.test_group import columns
from tests.builders import make_group, make_prompt, make_rollout


def test_two_estimators_worked_by_hand():
    # Outcomes (1, 0): 1/2 and -1/2 without std. Scores (1, 0) and (2), mean 1: suffix sums of
    # (0, -1) and (1). 2 * (1/2) + 10 * (-1, -1); 2 * (-1/2) + 10 * 1.
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0, scores={"prm": [1, 0]}),
        make_rollout("b", [[13]], outcome=0.0, scores={"prm": [2]}),
    )
    mixture = Mixture(
        outcome=GroupAdvantages(std="none"),
        process=ProcessAdvantages(std="none"),
        outcome_coefficient=2.0,
        process_coefficient=10.0,
    )
    assert columns(mixture.samples([group])) == [[0, 0, -9, -9], [0, 0, 9]]


def test_groups_without_signal_are_in_the_mean_or_left_out():
    # (1, 0): 1 and -1 by the outcome and by the step's score, 2 and -2; (1, 1) twice: 0 and 0.
    groups = [
        make_group(
            *(
                make_rollout(f"{name}{i}", [[11]], outcome=v, scores={"prm": [v]}, prompt=prompt)
                for i, v in enumerate(values)
            )
        )
        for name, values in (("p", (1.0, 0.0)), ("q", (1.0, 1.0)))
        for prompt in [make_prompt(name)]
    ]
    kept, out = (Mixture(without_signal=w).samples(groups) for w in ("kept", "left_out"))
    assert [row[-1] for row in columns(kept)] == [2, -2, 0, 0]
    assert [row[-1] for row in columns(out)] == [2, -2]
    assert kept.groups_without_signal == out.groups_without_signal == 1
    assert len(Mixture().samples(groups).sequences) == 4


def test_a_ragged_group_that_only_one_of_them_sees_a_signal_in():
    # Equal outcomes, so only the process counts: (1, 0) and (2) as above. The rollout without step
    # scores is not trained, though it has an outcome; nor is the one without an outcome.
    group = make_group(
        make_rollout("a", [[11], [12, 13]], outcome=1.0, scores={"prm": [1, 0]}),
        make_rollout("x", [[11]], outcome=1.0, scores={"prm": Failure(reason="timeout")}),
        make_rollout(
            "b", [[11], [14]], outcome=1.0, scores={"prm": [2, 1]}, parent="a", inherited=1
        ),
        make_rollout("y", [[14]], scores={"prm": [1]}),
    )
    # Pool (1, 0, 2, 1, 1), mean 1: a (0, -1) -> (-1, -1), b (1, 0) -> (1, 0), its first inherited.
    samples = Mixture(process=ProcessAdvantages(std="none")).samples([group])
    assert columns(samples) == [[0, 0, -1, -1, -1], [0, 0, 0, 0]]
    assert (samples.groups, samples.groups_without_signal) == (1, 0)


def test_a_mixture_of_mixtures():
    inner = Mixture(process=Vine())
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0, scores={"prm": [1, 0], "monte_carlo": [1, 1]}),
        make_rollout("b", [[13]], outcome=0.0, scores={"prm": [1], "monte_carlo": [0]}),
    )
    whole = Mixture(outcome=Rloo(), process=inner)
    parts = [columns(b.samples([group])) for b in (Rloo(), GroupAdvantages(), Vine())]
    for i, row in enumerate(columns(whole.samples([group]))):
        assert row == pytest.approx(np.sum([part[i] for part in parts], axis=0))
    assert whole.sources == {"outcome", "monte_carlo"}


@pytest.mark.parametrize("name", ["outcome_coefficient", "process_coefficient"])
def test_bad_fields(name: str):
    fields: dict[str, Any] = {name: -1.0}
    with pytest.raises(ValueError, match=rf"advantages\.{name} is -1.0; the smallest valid value"):
        Mixture(**fields)
