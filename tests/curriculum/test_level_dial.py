"""The dial of difficulty: where it stands, and when it turns."""

from __future__ import annotations

from typing import Any

import pytest

from rlstep.curriculum.level_dial import LevelDial
from rlstep.interfaces import Measurement
from tests.curriculum.kit import draw, ids, measured, prompt

# Levels 0, 2 and 5, three prompts each: a level that is not there is passed over.
PROMPTS = [prompt(f"{name}{i}", level=level)
           for name, level in (("a", 0), ("b", 2), ("c", 5)) for i in range(3)]  # fmt: skip
DIAL = LevelDial(promote_at=0.75, iterations=2)


def level(dial: LevelDial, seen: list[Measurement], iteration: int = 9) -> float:
    choice = dial.choose(PROMPTS, draw(iteration, measured=seen))
    here = {p.prompt_id[0] for p in choice.prompts}
    assert here == {{0: "a", 2: "b", 5: "c"}[int(choice.metrics["level"])]}
    return choice.metrics["level"]


def test_promotion_worked_by_hand() -> None:
    # Two iterations of level 0: 4 + 8 of 16 right are 0.75, enough; 4 + 7 are not.
    assert level(DIAL, []) == 0
    assert level(DIAL, measured(0, a0=8)) == 0  # one iteration only
    assert level(DIAL, measured(0, a0=4) + measured(1, a1=8)) == 2
    assert level(DIAL, measured(0, a0=4) + measured(1, a1=7)) == 0
    # The last two count: 3 + 5 + 7 promotes by 12 of 16.
    assert level(DIAL, measured(0, a0=3) + measured(1, a1=5) + measured(2, a2=7)) == 2


def test_what_comes_late_of_the_level_before_counts_for_nothing() -> None:
    up = measured(0, a0=8) + measured(1, a1=8)
    assert level(DIAL, up + measured(2, a0=8) + measured(3, a1=8)) == 2
    # A failed iteration is none: of b only the second has a verdict.
    lost = [Measurement(iteration=2, prompt_id="b0", samples=0, correct=0)]
    assert level(DIAL, up + lost + measured(3, b1=8)) == 2
    assert level(DIAL, up + measured(2, b0=8) + measured(3, b1=8)) == 5


def test_the_highest_level_is_the_last() -> None:
    seen = [m for i in range(8) for m in measured(i, a0=8, b0=8, c0=8)]
    assert level(DIAL, seen) == 5
    assert level(LevelDial(start=1), []) == 2


def test_a_level_is_gone_through_in_epochs() -> None:
    seen = measured(0, a0=8) + measured(1, a1=8)
    chosen = [ids(DIAL.choose(PROMPTS, draw(i, measured=seen))) for i in (2, 3)]
    assert {name for batch in chosen for name in batch} == {"b0", "b1", "b2"}


@pytest.mark.parametrize("wrong", [{}, {"level": None}, {"level": "3"}, {"level": True},
                                   {"level": -1}, {"level": 1.0}])  # fmt: skip
def test_a_task_without_levels_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"LevelDial goes by levels, and prompt 'x' has level"):
        DIAL.check([*PROMPTS, prompt("x", **wrong)], draw())


def test_levels_of_too_few_problems_are_refused() -> None:
    DIAL.check(PROMPTS, draw(size=2, further=1))
    with pytest.raises(ValueError, match=r"the 3 training problems of level 0, .* valid sum is 3"):
        DIAL.check(PROMPTS, draw(size=2, further=2))
    with pytest.raises(ValueError, match=r"curriculum\.start is 6.*\[0, 2, 5\].* value is 5"):
        LevelDial(start=6).check(PROMPTS, draw())
    few = [*PROMPTS, prompt("low", level=0)][3:]
    LevelDial(start=1).check(few, draw(size=3))  # what is under the start is never sampled


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"start": -1}, r"curriculum\.start is -1"),
        ({"promote_at": 1.5}, r"curriculum\.promote_at is 1\.5; the largest valid value is 1"),
        ({"iterations": 0}, r"curriculum\.iterations is 0; the smallest valid value is 1"),
    ],
)
def test_bad_settings(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LevelDial(**fields)
