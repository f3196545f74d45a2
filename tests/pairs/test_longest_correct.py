from __future__ import annotations

from rlstep.pairs.longest_correct import LongestCorrectPairs
from rlstep.types import OutcomeScore, Rollout, Verdict
from tests.builders import make_group, make_prompt, make_rollout
from tests.pairs.test_outcome import names


def rollout(name: str, tokens: list[int], verdict: Verdict, prompt_id: str = "p") -> Rollout:
    value = float(verdict is Verdict.CORRECT)
    score = OutcomeScore(value=value, verdict=verdict, extracted="")
    made = make_rollout(name, [tokens], prompt=make_prompt(prompt_id))
    return made.with_scores(outcome=score)


def right(name: str, length: int) -> Rollout:
    return rollout(name, [11] * length, Verdict.CORRECT)


def wrong(name: str, length: int) -> Rollout:
    return rollout(name, [12] * length, Verdict.WRONG)


def unparsable(name: str, length: int) -> Rollout:
    return rollout(name, [13] * length, Verdict.UNPARSABLE)


def found(*rollouts: Rollout) -> list[tuple[str, str, float, float]]:
    samples = LongestCorrectPairs().samples([make_group(*rollouts)])
    scores = [(p.chosen_score, p.rejected_score) for p in samples.pairs]
    return [(*ids, *pair) for ids, pair in zip(names(samples), scores, strict=True)]


def test_the_rule_worked_by_hand():
    a, b = right("a", 2), right("b", 5)
    c, d = wrong("c", 9), wrong("d", 3)
    x = unparsable("x", 7)
    # The longest correct one is b. One unparsable: rejected before any wrong one, at -1.
    assert found(a, b, c, d, x) == [("b", "x", 1.0, -1.0)]
    assert found(a, b, c) == [("b", "c", 1.0, 0.0)]
    # None correct: the longest wrong one against an unparsable one.
    assert found(c, d, x) == [("c", "x", 0.0, -1.0)]
    # Equal grades are no pair, whatever the lengths.
    assert found(a, b) == found(c, d) == found(x, unparsable("y", 2)) == found(a) == []
    assert found(make_rollout("timeout", [[14]]), a) == []


def test_of_equally_long_ones_the_first_is_taken():
    other = rollout("a2", [14, 14], Verdict.CORRECT)
    assert found(other, right("a1", 2), wrong("w", 1)) == [("a1", "w", 1.0, 0.0)]


def test_the_draw_depends_on_ids_alone_and_reaches_everyone():
    drawn = []
    for prompt in range(60):
        good = rollout(f"0/{prompt}/0", [11], Verdict.CORRECT)
        bad = [rollout(f"0/{prompt}/{i}", [12] * i, Verdict.WRONG) for i in range(1, 5)]
        ((_, rejected, _, _),) = found(good, *bad)
        assert found(*reversed(bad), good)[0][1] == rejected
        drawn.append(int(rejected[-1]))
    # Uniform over 4: 15 each, standard deviation 3.4.
    assert all(5 <= drawn.count(i) <= 25 for i in range(1, 5))


def test_whole_completions_are_trained():
    samples = LongestCorrectPairs().samples([make_group(right("a", 3), wrong("b", 1))])
    assert [s.loss_mask.tolist() for s in samples.sequences] == [
        [False, False, True, True, True],
        [False, False, True],
    ]
    assert samples.pairs[0].provenance == "longest_correct"
    assert LongestCorrectPairs().sources == {"outcome"}
