"""Con-J's contrastive pairs, worked by hand."""

from __future__ import annotations

import pytest

from rlstep.pairs.judgments import JudgmentPairs
from rlstep.rollouts.hinted import Hinted
from rlstep.testing.small import small_config
from rlstep.types import Failure, OutcomeScore, Rollout, Sampling, Score, Verdict
from tests.builders import make_group, make_rollout

GRADES = {"right": Verdict.CORRECT, "wrong": Verdict.WRONG, "none": Verdict.UNPARSABLE}


def score(verdict: str) -> OutcomeScore:
    return OutcomeScore(value=float(verdict == "right"), verdict=GRADES[verdict], extracted="")


def judgment(name: str, verdict: str, token: int, hint: str = "") -> Rollout:
    made = make_rollout(name, [[token, 9]])
    scores: dict[str, Score] = {"outcome": score(verdict)}
    if hint:
        scores["hint"] = score(hint)
    return made.with_scores(**scores)


PLAIN = [
    judgment("a", "right", 11),
    judgment("b", "wrong", 12),
    judgment("c", "right", 13),
    judgment("d", "wrong", 14),
    judgment("e", "none", 15),
    judgment("f", "none", 16),
]
HINTED = [
    judgment("g", "right", 17, hint="right"),
    judgment("h", "wrong", 18, hint="wrong"),
    judgment("i", "wrong", 19, hint="right"),  # would not follow its hint
    judgment("j", "none", 20, hint="wrong"),
]


def pairs(builder: JudgmentPairs, *rollouts: Rollout) -> list[tuple[str, str, float]]:
    samples = builder.samples([make_group(*rollouts)])
    ids = [s.sequence_id for s in samples.sequences]
    assert all(p.provenance == "judgment" and p.chosen_score == 1.0 for p in samples.pairs)
    return [(ids[p.chosen], ids[p.rejected], p.rejected_score) for p in samples.pairs]


def test_the_numbers_of_the_paper():
    # Of a-b, a-d, c-b, c-d three, each time with the sides used least: a-b, then c-d (neither used
    # yet), then a-d. One with an unread judgment: a-e. One of hints: g-h.
    assert pairs(JudgmentPairs(), *PLAIN, *HINTED) == [
        ("a", "b", 0.0),
        ("c", "d", 0.0),
        ("a", "d", 0.0),
        ("a", "e", -1.0),
        ("g", "h", 0.0),
    ]


def test_no_more_than_there_are():
    builder = JudgmentPairs(contrasts=9, unparsable=9, hints=9)
    found = pairs(builder, *PLAIN, *HINTED)
    assert len(found) == 2 * 2 + 2 * 2 + 1 and len(set(found)) == len(found)


def test_none_of_a_kind():
    only = {"contrasts": 0, "unparsable": 0, "hints": 0}
    assert pairs(JudgmentPairs(**only), *PLAIN, *HINTED) == []
    assert {p[2] for p in pairs(JudgmentPairs(**{**only, "contrasts": 1}), *PLAIN)} == {0.0}
    assert {p[2] for p in pairs(JudgmentPairs(**{**only, "unparsable": 1}), *PLAIN)} == {-1.0}


@pytest.mark.parametrize("verdict", ["right", "wrong", "none"])
def test_a_judge_that_always_says_the_same_needs_hints(verdict: str):
    same = [judgment(name, verdict, 11 + i) for i, name in enumerate("abc")]
    assert pairs(JudgmentPairs(), *same) == []
    assert pairs(JudgmentPairs(), *same, *HINTED) == [("g", "h", 0.0)]


def test_failed_judgments_and_repeated_ones():
    failed = make_rollout("z", [[30]]).with_scores(outcome=Failure(reason="timeout"))
    again = judgment("zz", "right", 11)  # the same tokens as a
    unhinted = judgment("y", "right", 31).with_scores(hint=Failure(reason="timeout"))
    everything = pairs(JudgmentPairs(), *PLAIN, failed, again, unhinted)
    assert everything == pairs(JudgmentPairs(), *PLAIN)


def test_hints_are_a_source_where_they_are_wanted():
    assert JudgmentPairs().sources == {"outcome", "hint"}
    assert JudgmentPairs(hints=0).sources == {"outcome"}
    with pytest.raises(ValueError, match=r"JudgmentPairs reads the scores \['hint'\]"):
        small_config(samples=JudgmentPairs())
    hinted = Hinted(sampling=Sampling(max_tokens=64))
    assert small_config(samples=JudgmentPairs(), rollouts=hinted).rollouts is hinted


def test_bad_fields_are_refused():
    with pytest.raises(ValueError, match=r"pairs.contrasts is -1; the smallest valid value is 0"):
        JudgmentPairs(contrasts=-1)
