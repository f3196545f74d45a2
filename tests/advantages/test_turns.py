"""Credit of turns: compared with what else could follow the same history, or with other histories'
turn of the same number."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from rlstep.advantages.assemble import AdvantageBuilder
from rlstep.advantages.process import ProcessAdvantages
from rlstep.advantages.step_sum import StepSum
from rlstep.advantages.vine import Vine
from rlstep.environments.guess_number import GuessNumber, anywhere, value
from rlstep.environments.plain_turns import PlainTurns
from rlstep.rollouts.conversation import Conversation
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.steps.turns import Turns
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Group, Rollout
from tests.builders import make_counts, make_group, make_rollout

# --- a game of two turns, worked by hand ---------------------------------------------------------
#
# The first turn leads to a good history or to a bad one, each half the time. In both the second
# turn says x or y, each half the time, and is right so often:
#
#            x     y    V(history)     A(x)   A(y)
#     good   1    1/2      3/4         1/4   -1/4
#     bad   1/2    0       1/4         1/4   -1/4
#
# V of the prompt is 1/2, so the first turn's advantages are 1/4 and -1/4.

GOOD, BAD, X, Y, SEEN = 11, 12, 21, 22, 31
PLAYED = {  # two of each, which come out as often as they should
    (GOOD, X): (1.0, 1.0),
    (GOOD, Y): (1.0, 0.0),
    (BAD, X): (1.0, 0.0),
    (BAD, Y): (0.0, 0.0),
}


def two_turns() -> Group:
    rollouts = []
    for (first, second), outcomes in PLAYED.items():
        for i, outcome in enumerate(outcomes):
            after = 3 if first == GOOD else 1  # of 4 continuations of the history
            counts = make_counts([4, 4], [after, int(4 * outcome)])
            rollouts.append(
                make_rollout(
                    f"{first}-{second}-{i}",
                    [[first], [second]],
                    observed={0: [SEEN]},
                    outcome=outcome,
                    scores={"environment": [0.0, outcome], "monte_carlo": counts},
                )
            )
    return make_group(*rollouts)


def credited(builder: AdvantageBuilder) -> dict[tuple[int, int], tuple[float, float]]:
    """Mean advantage of the first and of the second turn, by what they said."""
    [credit] = builder.advantages([two_turns()])
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for rollout, column in credit:
        first, seen, second = rollout.completion.token_ids.tolist()
        assert seen == SEEN and column[1] == 0.0  # nobody is paid for what was observed
        found.setdefault((first, second), []).append((column[0], column[2]))
    return {key: tuple(np.mean(pairs, axis=0)) for key, pairs in found.items()}


def test_against_the_same_history_worked_by_hand():
    """Outcome - V(history): (good, x) 1 - 3/4; (good, y) the mean of 1/4 and -3/4; (bad, x) of 3/4
    and -1/4; (bad, y) 0 - 1/4. A turn's advantage is the true one, whatever led to it."""
    assert credited(Vine()) == {
        (GOOD, X): (0.25, 0.25),
        (GOOD, Y): (0.25, -0.25),
        (BAD, X): (-0.25, 0.25),
        (BAD, Y): (-0.25, -0.25),
    }


def test_against_the_turn_of_the_same_number_worked_by_hand():
    """Return - mean of the 7 others': 1 - 3/7 = 4/7, or 0 - 4/7. (good, y) is the mean of both,
    and so is (bad, x): 0, where the truth is -1/4 and 1/4. So the worse move is not blamed where
    the history is good, and the better one not praised where it is bad: of each the credit is off
    by 8/7 of V(history) - 1/2. First turns have the same credit as their second ones."""
    same_number = StepSum(source="environment", outcome_coefficient=0.0)
    found = credited(same_number)
    expected = {(GOOD, X): 4 / 7, (GOOD, Y): 0.0, (BAD, X): 0.0, (BAD, Y): -4 / 7}
    for key, second in expected.items():
        assert found[key] == pytest.approx((second, second))
    truth = credited(Vine())
    for (first, said), (_, second) in found.items():
        bias = second - 8 / 7 * truth[first, said][1]
        assert bias == pytest.approx(8 / 7 * (0.25 if first == GOOD else -0.25))
    # Pooled over turns it is no other: x in a bad history is where its group's mean is.
    pooled = credited(ProcessAdvantages(source="environment", std="none"))
    assert pooled[GOOD, Y][1] == pooled[BAD, X][1] != pytest.approx(-0.25)


def test_the_bias_is_noise_in_the_mean_gradient_and_no_less():
    """Over all that a history's turn may say the offset goes: sum of pi(a) grad log pi(a) = 0. So
    both push x up in either history, by the true gradient and by 8/7 of it; but the credit of one
    turn is off by twice as much in its mean square, 193/784 against 1/8."""
    vine, same = credited(Vine()), credited(StepSum(source="environment", outcome_coefficient=0.0))
    for history in (GOOD, BAD):
        gradients = [(c[history, X][1] - c[history, Y][1]) / 4 for c in (vine, same)]
        assert gradients == pytest.approx([1 / 8, 1 / 7])

    def error(builder: AdvantageBuilder) -> float:
        [credit] = builder.advantages([two_turns()])
        off = [
            column[2] - (0.25 if rollout.completion.token_ids[2] == X else -0.25)
            for rollout, column in credit
        ]
        return float(np.mean(np.square(off)))

    # x in good and y in bad are exact; the other half is off by 1/2, up or down.
    assert error(Vine()) == pytest.approx(1 / 8)
    # Off by 4/7 - 1/4 = 9/28; one of (good, y) and one of (bad, x) by 4/7 + 1/4 = 23/28.
    # (6 * 81 + 2 * 529) / (8 * 784) = 193/784.
    same_number = StepSum(source="environment", outcome_coefficient=0.0)
    assert error(same_number) == pytest.approx(193 / 784)


# --- VinePPO over the turns of a game whose values are known ------------------------------------

LOW, HIGH, GUESSES = 8, 15, 4
GAME = Conversation(
    environment=GuessNumber(guesses=GUESSES),
    samples_per_prompt=6,
    format=PlainTurns(before="", after="\n"),
)


@lru_cache(None)
def found(below: int, above: int, guesses: int) -> float:
    """How often a number with so many others below and above it is found by who guesses anywhere
    in what is left."""
    if not guesses:
        return 0.0
    less = sum(found(below - 1 - i, above, guesses - 1) for i in range(below))
    more = sum(found(below, above - 1 - i, guesses - 1) for i in range(above))
    return (1 + less + more) / (1 + below + above)


def left(text: str) -> tuple[int, int]:
    """What a conversation's text leaves of the range."""
    lines = text.split()
    low, high = LOW, HIGH
    for said, sign in pairwise(lines):
        if sign in "<>":
            low, high = (low, int(said) - 1) if sign == "<" else (int(said) + 1, high)
    return low, high


def guesses_anywhere(prefix: str, child: int, seed: int) -> str:
    low, high = left(prefix.partition("\n")[2])
    return f"{low + int(np.random.default_rng([seed, child]).integers(high - low + 1))}\n"


def exact(rollout: Rollout, answer: int) -> list[float]:
    """V(s_0), V(s_1), ..., and the outcome."""
    assert rollout.outcome is not None
    values = []
    for k in range(len(rollout.steps)):
        low, high = left(rollout.completion.text[: _text_before(rollout, k)])
        values.append(found(answer - low, high - answer, GUESSES - k))
    return [*values, rollout.outcome.value]


def _text_before(rollout: Rollout, turns: int) -> int:
    tokens = rollout.before(turns)
    return int(rollout.completion.ends[tokens - 1]) if tokens else 0


@pytest.mark.parametrize(("size", "guesses"), [(1, 1), (2, 1), (5, 2), (8, 4), (31, 5)])
def test_values_of_one_number_have_the_mean_that_is_known(size: int, guesses: int):
    every = [found(i, size - 1 - i, guesses) for i in range(size)]
    assert np.mean(every) == pytest.approx(value(anywhere, size, guesses))


@pytest.mark.parametrize("answer", [8, 12, 15])
async def test_vineppo_over_turns_finds_the_exact_advantages(answer: int):
    draws = 150
    scorer = FakeScorer(environment=GAME.environment)
    context = fake_context(
        FakeGenerator(guesses_anywhere), scorer, splitter=Turns(), conversing=GAME
    )
    prompt = small_prompt("p", text=f"{LOW:02d}-{HIGH}\n", answer=str(answer))
    [group] = [group async for group in GAME.collect([prompt], context)]
    labels = MonteCarlo(continuations=draws, own_outcome=False)
    rollouts = tuple(await labels.label(group.rollouts, context))
    [credit] = Vine().advantages([Group(prompt=prompt, rollouts=rollouts)])
    assert len(credit) == len(rollouts) == 6 and max(len(r.steps) for r in rollouts) > 1
    outcomes = np.mean([r.outcome.value for r in rollouts if r.outcome])
    for rollout, column in credit:
        values = exact(rollout, answer)
        values[0] = float(outcomes)  # the prompt's is the group's mean, as it is
        spread = [0.0, *(np.sqrt(v * (1 - v) / draws) for v in values[1:-1]), 0.0]
        assert not column[~rollout.completion.sampled].any()
        for k, step in enumerate(rollout.steps):
            [advantage] = set(column[step.start : step.end].tolist())
            allowed = 4.5 * np.hypot(spread[k], spread[k + 1]) + 1e-6
            assert abs(advantage - (values[k + 1] - values[k])) < allowed
