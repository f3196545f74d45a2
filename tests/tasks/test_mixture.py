"""Several tasks as one: shares, names, levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.curriculum.level_dial import LevelDial
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.tasks.logic import Logic
from rlstep.tasks.mixture import Part, TaskMixture
from rlstep.testing.roles import TOKENIZER
from rlstep.testing.small import small_prompts
from tests.curriculum.kit import draw


@dataclass(frozen=True, kw_only=True)
class Some(Task):
    train: int
    evaluation: int = 1
    dropped: int = 0

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        every = small_prompts(self.train + self.evaluation)
        return PromptSet(
            train=every[: self.train],
            evaluation=every[self.train :],
            dropped={"too_long": self.dropped} if self.dropped else {},
            too_long=[99] * self.dropped,
        )


def mixed(*parts: Part) -> PromptSet:
    return TaskMixture(parts=parts).load(TOKENIZER, 64)


def test_shares_worked_by_hand() -> None:
    """Of 12 and 10 problems at weights 3 and 1 there are 12 and 4: 12 / 3 = 4 a unit of weight.
    Of 2 and 2 held out, at 2 / 3 a unit, 2 and round(2 / 3) = 1."""
    found = mixed(Part(name="x", task=Some(train=12, evaluation=2), weight=3.0),
                  Part(name="y", task=Some(train=10, evaluation=2, dropped=5)))  # fmt: skip
    assert [p.prompt_id for p in found.train] == [f"x/{c}" for c in "abcdefghijkl"] + [
        f"y/{c}" for c in "abcd"
    ]
    assert [p.meta for p in found.evaluation] == [{"task": "x"}] * 2 + [{"task": "y"}]
    assert found.dropped == {"too_long": 5, "over_weight": 6 + 1} and found.too_long == [99] * 5


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.1, 10)), min_size=1, max_size=3))
def test_shares_are_as_the_weights(of: list[tuple[int, float]]) -> None:
    parts = [Part(name=str(i), task=Some(train=n), weight=w) for i, (n, w) in enumerate(of)]
    found = mixed(*parts).train
    unit = min(n / w for n, w in of)
    for part, (number, weight) in zip(parts, of, strict=True):
        kept = sum(p.meta["task"] == part.name for p in found)
        assert 1 <= kept <= number and (abs(kept - unit * weight) <= 0.5 or kept == 1)
    assert len({p.prompt_id for p in found}) == len(found)


def test_a_part_without_a_split_leaves_it_to_the_others() -> None:
    parts = [Part(name="x", task=Some(train=3, evaluation=0)), Part(name="y", task=Some(train=3))]
    found = mixed(*parts)
    assert [p.prompt_id for p in found.evaluation] == ["y/d"] and len(found.train) == 6


def test_one_task_at_several_levels_is_a_task_of_levels() -> None:
    task = TaskMixture(
        parts=tuple(
            Part(name=f"operations-{n}", task=Arithmetic(operations=n, train=4, evaluation=1))
            for n in (1, 3)
        )
    )
    train = task.load(TOKENIZER, 64).train
    assert [p.meta["level"] for p in train] == [0] * 4 + [2] * 4
    LevelDial().check(train, draw(size=4))


def test_a_part_may_say_its_level() -> None:
    tasks = [Arithmetic(operations=3, limit=n, largest_operand=9, train=4) for n in (20, 40)]
    parts = [Part(name=str(i), task=task, level=i) for i, task in enumerate(tasks)]
    assert [p.meta["level"] for p in mixed(*parts).train] == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match=r"part\.level is -1; the smallest valid value is 0"):
        replace(parts[0], level=-1)


def test_arithmetic_and_logic_by_one_tokenizer() -> None:
    parts = (
        Part(name="arithmetic", task=Arithmetic(train=8, evaluation=2)),
        Part(name="logic", task=Logic(premises=3, train=8, evaluation=2)),
    )
    found = TaskMixture(parts=parts).load(TOKENIZER, 256)
    assert [p.meta["level"] for p in found.train] == [4] * 8 + [1] * 8
    assert found.train[0].meta == {"operations": 5, "level": 4, "task": "arithmetic"}
    alone = parts[1].task.load(TOKENIZER, 256).train
    assert [p.text for p in found.train[8:]] == [p.text for p in alone]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TaskMixture(parts=()), r"task\.parts is empty"),
        (lambda: TaskMixture(parts=(part("x"), part("x"))), r"task\.parts has 'x' twice"),
        (lambda: part(""), r"part\.name is ''"),
        (lambda: part("x", weight=0.0), r"part\.weight is 0\.0; it must be above 0"),
    ],
)
def test_bad_mixtures(make: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


def part(name: str, **fields: Any) -> Part:
    return Part(name=name, task=Some(train=1), **fields)
