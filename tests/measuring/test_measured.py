"""What a group shows of its prompt."""

from __future__ import annotations

import pytest

from rlstep.interfaces import Measurement
from rlstep.measuring.measured import measurement
from rlstep.types import Failure, RolloutScore
from tests.builders import make_counts, make_group, make_rollout, make_token_scores


def test_worked_by_hand() -> None:
    """Of four rollouts one is right, one wrong, one has no verdict; a branch is not counted."""
    right = make_rollout(
        "0", [[1], [2]], outcome=1.0,
        scores={"prm": [0.25, 0.75], "length": RolloutScore(value=-1.0),
                "mc": make_counts([4, 0], [1, 0]), "tokens": make_token_scores([1.0, 2.0])},
    )  # fmt: skip
    wrong = make_rollout(
        "1", [[1]], outcome=0.0,
        scores={"prm": [1.0], "length": Failure(reason="x"), "mc": make_counts([0], [0])},
    )  # fmt: skip
    lost = make_rollout("2", [[1]], scores={"length": RolloutScore(value=0.0)})
    branch = make_rollout("3", [[1]], outcome=1.0, parent="1", scores={"prm": [0.0]})
    found = measurement(make_group(right, wrong, lost, branch), 4,
                        ["outcome", "prm", "length", "mc", "tokens", "none"])  # fmt: skip
    assert found == Measurement(
        iteration=4,
        prompt_id="p",
        samples=2,
        correct=1,
        # prm (0.5 + 1) / 2; length (-1 + 0) / 2; mc one labelled step, 1 of 4; tokens (1 + 2) / 2
        scores={"outcome": 0.5, "prm": 0.75, "length": -0.5, "mc": 0.25, "tokens": 1.5},
    )


def test_nothing_is_measured_of_what_failed() -> None:
    found = measurement(make_group(make_rollout("0", [[1]])), 0, ["outcome"])
    assert (found.samples, found.correct, found.scores) == (0, 0, {})
    assert measurement(make_group(make_rollout("0", [[1]], outcome=0.0)), 0, []).scores == {}


def test_a_share_of_votes_is_a_score_and_no_verdict() -> None:
    found = measurement(make_group(make_rollout("0", [[1]], outcome=0.75)), 0, ["outcome"])
    assert found.scores == {"outcome": pytest.approx(0.75)} and found.correct == 0
