from __future__ import annotations

import logging
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from rlstep.measuring.monitors import (
    FEWEST_CHAINS,
    LEARNT,
    Alarm,
    Monitors,
    Thresholds,
    alarms,
    figures,
    tell,
    watch,
    watch_learner,
)
from rlstep.thoughts import ThoughtTags
from rlstep.types import Failure, Group, OutcomeScore, Rollout, RolloutScore, Verdict
from tests.builders import make_counts, make_group, make_outcome, make_prompt, make_rollout

LOST = OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")


def rollout(name: str, outcome: float | None, *scores: float, **more: Any) -> Rollout:
    """Steps of one token each, all different."""
    steps = [[10 + i] for i in range(len(scores))]
    return make_rollout(name, steps, outcome=outcome, scores={"prm": scores}, **more)


def test_figures_worked_by_hand():
    # min: a 0.75 right, b 0.25 right, c 0.75 wrong, d 0.5 wrong, e 1 unparsable.
    lost = rollout("e", None, 1.0).with_scores(outcome=LOST)
    group = make_group(
        rollout("a", 1.0, 0.75, 1.0),
        rollout("b", 1.0, 1.0, 0.25),
        rollout("c", 0.0, 0.75, 0.75),
        rollout("d", 0.0, 0.5),
    )
    found = figures([group, make_group(lost)], Monitors())
    assert found == {
        "false_good": pytest.approx(2 / 5),  # c and e; at exactly 1/2 nothing is said of d
        "false_bad": pytest.approx(1 / 5),  # b
        # Right are 0.75 and 0.25, not right 0.75, 0.5 and 1: of six comparisons 0.75 wins one
        # and ties one, 0.25 none.
        "outcome_auc": pytest.approx(1.5 / 6),
        "repeated_steps": 0.0,
        "unparsable": pytest.approx(1 / 5),
        "step_score/0": pytest.approx((0.75 + 1 + 0.75 + 0.5 + 1) / 5),
        "step_score/1": pytest.approx((1 + 0.25 + 0.75) / 3),
    }


def test_source_aggregate_and_bar_are_the_monitors_own():
    judged = rollout("a", 0.0, 0.0, 0.0).with_scores(
        judge=rollout("a", None, 0.25, 0.75).scores["prm"]
    )
    watched = Monitors(source="judge", aggregate="last", good=0.7)
    assert figures([make_group(judged)], watched)["false_good"] == 1.0
    assert figures([make_group(judged)], replace(watched, good=0.8))["false_good"] == 0.0


def test_a_source_may_score_whole_chains():
    formed = make_rollout("a", [[7]], outcome=0.0, scores={"form": make_outcome(1.0)})
    found = figures([make_group(formed)], Monitors(source="form"))
    assert found == {"false_good": 1.0, "false_bad": 0.0, "repeated_steps": 0, "unparsable": 0}
    rewarded = formed.with_scores(form=RolloutScore(value=1.0))
    assert figures([make_group(rewarded)], Monitors(source="form")) == found
    broken = formed.with_scores(form=make_outcome(math.nan))
    assert "false_good" not in figures([make_group(broken)], Monitors(source="form"))


def test_repeated_steps_worked_by_hand():
    # '7 ', '8 ', '7 ', '7 ': two of four repeat. Of the other completion one of two; that both
    # completions have an '8 ' is no repetition.
    group = make_group(make_rollout("a", [[7], [8], [7], [7]]), make_rollout("b", [[8], [8]]))
    assert figures([group], Monitors())["repeated_steps"] == pytest.approx(3 / 6)


def test_white_space_hides_no_repetition():
    r = make_rollout("a", [[7], [8]])
    text = "go on\ngo  on"
    completion = replace(r.completion, text=text, ends=r.completion.ends * 0 + [6, len(text)])
    assert figures([make_group(replace(r, completion=completion))], Monitors()) == {
        "repeated_steps": 0.5
    }


def thinking(name: str, *lines: str) -> Rollout:
    """Steps of one token each."""
    r = make_rollout(name, [[7]] * len(lines))
    ends = np.cumsum([len(line) for line in lines]).astype(np.int32)
    return replace(r, completion=replace(r.completion, text="".join(lines), ends=ends))


@pytest.mark.parametrize(
    ("thoughts", "lines", "found"),
    [
        (ThoughtTags(), ["<think>a\n", "b\n", "</think>c"], {"repeated_steps": 0.0}),
        (ThoughtTags(), ["<think>a\n", "b"], {"repeated_steps": 0.0, "unfinished": 1.0}),
        (ThoughtTags(), ["a\n", "b"], {"repeated_steps": 0.0}),
        (ThoughtTags(opened=True), ["a\n", "b"], {"repeated_steps": 0.0, "unfinished": 1.0}),
        (ThoughtTags(opened=True), ["a\n", "</think>b"], {"repeated_steps": 0.0}),
        (ThoughtTags(), ["<think>a\n", "a\n", "</think>a"], {"repeated_steps": 2 / 3}),
        (ThoughtTags(), ["[T]a\n", "a"], {"repeated_steps": 0.0}),
        (
            ThoughtTags(start="[T]", end="[/T]"),
            ["[T]a\n", "a"],
            {"repeated_steps": 0.5, "unfinished": 1.0},
        ),
        (
            ThoughtTags(start="[T]", end="[/T]"),
            ["<think>a\n", "[T]b\n", "[/T]b"],
            {"repeated_steps": 1 / 3},
        ),
    ],
)
def test_thoughts_are_told_by_their_tags(thoughts, lines, found):
    """Tags repeat nothing and hide no repetition; a thought that never ends is counted."""
    group = make_group(thinking("a", *lines))
    assert figures([group], Monitors(thoughts=thoughts)) == pytest.approx(found)


def test_unfinished_thoughts_are_a_share_of_all_rollouts():
    group = make_group(thinking("a", "<think>a"), *(thinking(n, "a") for n in "bcd"))
    assert figures([group], Monitors())["unfinished"] == 1 / 4


def chains(scores: list[float], lengths: list[int]) -> Group:
    return make_group(
        *(
            make_rollout(str(i), [[i] * length], outcome=1.0, scores={"prm": [score]})
            for i, (score, length) in enumerate(zip(scores, lengths, strict=True))
        )
    )


def test_scores_that_grow_with_length():
    lengths = list(range(1, FEWEST_CHAINS + 1))
    rising = figures([chains([length / 20 for length in lengths], lengths)], Monitors())
    assert rising["length_correlation"] == pytest.approx(1.0)
    falling = figures([chains([1 - length / 20 for length in lengths], lengths)], Monitors())
    assert falling["length_correlation"] == pytest.approx(-1.0)
    constant = figures([chains([0.5] * FEWEST_CHAINS, lengths)], Monitors())
    assert constant["length_correlation"] == 0.0
    few = figures([chains([0.1, 0.9], [1, 2])], Monitors())
    assert "length_correlation" not in few


def test_what_has_no_score_is_in_no_mean():
    r = rollout("a", 1.0, 0.9)
    group = make_group(
        r,
        rollout("verdict failed", None, 0.1),
        make_rollout("score failed", [[1]], outcome=0.0, scores={"prm": Failure(reason="lost")}),
        make_rollout("partly", [[1]], outcome=0.0, scores={"prm": make_counts([0], [0])}),
        rollout("not finite", 0.0, math.nan),
        make_rollout("empty", [], outcome=0.0, scores={"prm": []}),
        rollout("branch", 0.0, 0.9, parent="a", inherited=1),
    )
    found = figures([group], Monitors())
    assert (found["false_good"], found["false_bad"]) == (0.0, 0.0)
    assert found["step_score/0"] == pytest.approx((0.9 + 0.1) / 2)
    assert figures([], Monitors()) == {}


def test_permuting_rollouts_changes_nothing():
    group = make_group(*(rollout(str(i), i % 2, i / 20, 0.5) for i in range(20)))
    backwards = replace(group, rollouts=group.rollouts[::-1])
    assert figures([group], Monitors()) == pytest.approx(figures([backwards], Monitors()))


# --- alarms --------------------------------------------------------------------------------------


def test_an_alarm_is_strictly_above_its_threshold():
    found = {"repeated_steps": 0.25, "unparsable": 0.25, "step_score/0": 1.0}
    checked = alarms(found, Thresholds(repeated_steps=0.25, unparsable=0.2))
    assert checked == [
        Alarm(name="repeated_steps", figure=0.25, threshold=0.25),
        Alarm(name="unparsable", figure=0.25, threshold=0.2),
    ]
    assert [alarm.raised for alarm in checked] == [False, True]


def test_every_threshold_has_its_figure():
    """What the figures of a batch have no name for is the drift, which evaluation measures, and
    what the policy's learner does."""
    group = make_group(*(rollout(str(i), i % 2, 0.5) for i in range(FEWEST_CHAINS)))
    names = {field.name for field in fields(Thresholds)}
    assert names - figures([group], Monitors()).keys() == {"drift", *LEARNT}


def test_a_learner_that_does_not_move_is_dead(caplog: pytest.LogCaptureFixture):
    nothing = {"train/loss": 1.0}
    assert watch_learner(nothing, Thresholds()) == {}
    healthy = {"weights/unmoved": 0.95, "displacement/chosen_fell": 0.9}
    assert watch_learner(healthy, Thresholds()) == {
        "alarm/unmoved": 0.0,
        "alarm/chosen_fell": 0.0,
    }
    assert not caplog.records
    assert watch_learner({"weights/unmoved": 0.998}, Thresholds()) == {"alarm/unmoved": 1.0}
    assert "alarm: unmoved is 0.998, above its threshold 0.95" in caplog.text
    assert "the learner is dead" in caplog.text


def test_an_alarm_is_told_once_and_as_a_metric(caplog: pytest.LogCaptureFixture):
    group = make_group(rollout("a", 0.0, 0.9), rollout("b", 1.0, 0.9))
    with caplog.at_level(logging.WARNING):
        metrics = watch([group], Monitors(thresholds=Thresholds(false_good=0.4)))
    assert metrics["monitor/false_good"] == 0.5
    assert (metrics["alarm/false_good"], metrics["alarm/false_bad"]) == (1.0, 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "alarm: false_good is 0.500, above its threshold 0.4 (monitors.thresholds.false_good)"
    ]


def test_the_drift_of_a_probe_raises_an_alarm(caplog: pytest.LogCaptureFixture):
    assert tell(alarms({"drift": 0.3}, Thresholds())) == {"alarm/drift": 0.0}
    assert not caplog.records
    assert tell(alarms({"drift": 0.3}, Thresholds(drift=0.2))) == {"alarm/drift": 1.0}
    assert "drift is 0.300" in caplog.text


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Thresholds, {"drift": -0.1}, "monitors.thresholds.drift is -0.1; the smallest valid"),
        (Thresholds, {"unparsable": 1.5}, "monitors.thresholds.unparsable is 1.5; the largest"),
        (Monitors, {"good": 2.0}, "monitors.good is 2.0; the largest valid value is 1.0"),
        (Monitors, {"source": ""}, "monitors.source is ''"),
    ],
)
def test_bad_fields(kind: Any, values: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        kind(**values)
    assert message in str(caught.value)


def test_a_prompt_of_its_own_group_changes_no_figure():
    one = make_group(rollout("a", 1.0, 0.9), rollout("b", 0.0, 0.9))
    apart = [make_group(rollout("a", 1.0, 0.9)),
             make_group(rollout("b", 0.0, 0.9, prompt=make_prompt("q")))]  # fmt: skip
    assert figures([one], Monitors()) == figures(apart, Monitors())
