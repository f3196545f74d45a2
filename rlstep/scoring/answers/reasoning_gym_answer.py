"""The verifier of reasoning-gym's data sets: the library's own graders, kept from running programs.

Some graders hand the answer to Python's `eval`, or to sympy's parser, which does. What a model
wrote is never run here: their data sets are refused by name when a task is loaded (`EVALUATES`),
and should one be missing from that list, the process refuses to run code made from a text.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import CodeType
from typing import Any

from rlstep.checks import needs_extra
from rlstep.interfaces import Verifier
from rlstep.scoring.answers.extraction import cut_off, one_group
from rlstep.thoughts import ThoughtTags
from rlstep.types import OutcomeScore, Verdict

EVALUATES = frozenset(
    "binary_matrix bitwise_arithmetic countdown intermediate_integration n_queens"
    " number_sorting polynomial_multiplication puzzle24 simple_integration"
    " spiral_matrix string_insertion".split()
)
"""Data sets of reasoning-gym 0.1.25 whose grader evaluates a text as Python: the answer,
or one of its own beside it."""


class EvaluatesText(Exception):
    """A grader tried to run code that it made from a text. Nothing of it was run."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A reference answer: an item of a data set, and the data set that grades it."""

    dataset: str
    level: int | None
    config: dict[str, Any] = field(hash=False)
    item: dict[str, Any] = field(hash=False)

    def answer(self) -> str:
        """As a prompt's reference answer: JSON, in which tuples become lists."""
        return json.dumps(vars(self))

    @classmethod
    def read(cls, answer: str) -> Entry:
        """What `answer` wrote.

        Raises:
            ValueError: it is not.
        """
        try:
            return cls(**json.loads(answer))
        except (ValueError, TypeError) as error:
            raise ValueError(f"the reference answer is no reasoning-gym entry: {error}") from error


def make_dataset(name: str, level: int | None, config: dict[str, Any], seed: int, size: int) -> Any:
    """A data set of the library.

    Args:
        level: of its curriculum, from 0; None takes the data set's defaults.
        config: fields of its configuration that are not as the level or the defaults have them.
    """
    from reasoning_gym.factory import DATASETS, create_curriculum, create_dataset  # pyright: ignore[reportMissingImports]

    settings = {**config, "seed": seed, "size": size}
    if level is None:
        return create_dataset(name, **settings)
    curriculum = create_curriculum(name)
    curriculum.set_global_level(level)
    return DATASETS[name][0](config=replace(curriculum.generate_configuration(), **settings))


@dataclass(frozen=True, kw_only=True)
class ReasoningGymAnswer(Verifier):
    """Grades what a regular expression finds last, by the grader of the entry's data set.

    Correct is a full score and nothing less; the grader's own number is the outcome's `grade`. A
    completion without an answer is unparsable, with a grade of 0, and so is one whose answer
    `max_tokens` cut off. The reference answer is `Entry.answer()`.
    """

    pattern: str = r"(?s)<answer>(.*?)</answer>"
    """One group, the answer; spaces around it do not count."""
    thoughts: ThoughtTags = ThoughtTags()
    """Only what stands after the last thought is read; an unfinished one is unparsable."""

    def __post_init__(self) -> None:
        one_group("reasoning_gym_answer.pattern", self.pattern)

    def check(self, deadline_s: float) -> None:
        """See `Verifier.check`. Raises ValueError where the library is not installed."""
        needs_extra("reasoning_gym_answer", "reasoning_gym")
        importlib.import_module("reasoning_gym")  # takes seconds, which no item has

    def verify(self, text: str, answer: str, finish_reason: str = "stop") -> OutcomeScore:
        """Score one completion.

        Raises:
            EvaluatesText: the grader would run the answer as a program.
            ValueError: the reference is no entry, or the grader's number is not in [0, 1].
            Exception: whatever the grader raises.
        """
        said = self.thoughts.after(text)
        found = re.findall(self.pattern, said) if said is not None else []
        extracted = found[-1].strip() if found else ""
        if not extracted or (finish_reason == "length" and cut_off(text, found[-1])):
            return OutcomeScore(
                value=0.0, verdict=Verdict.UNPARSABLE, extracted=extracted, grade=0.0
            )
        grade = self.grade(extracted, answer)
        return OutcomeScore(
            value=float(grade == 1.0),
            verdict=Verdict.CORRECT if grade == 1.0 else Verdict.WRONG,
            extracted=extracted,
            grade=grade,
        )

    def grade(self, extracted: str, answer: str) -> float:
        """The grader's own number for an answer, in [0, 1]. Raises as `verify`."""
        entry = Entry.read(answer)
        dataset = self._dataset(entry)
        with _GUARD:
            score = float(dataset.score_answer(extracted, entry.item))
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"the grader of {entry.dataset!r} says {score}, not in [0, 1]")
        return score

    @cached_property
    def _datasets(self) -> dict[str, Any]:
        return {}

    def _dataset(self, entry: Entry) -> Any:
        key = json.dumps([entry.dataset, entry.level, entry.config])
        if key not in self._datasets:
            made = make_dataset(entry.dataset, entry.level, entry.config, seed=0, size=1)
            self._datasets[key] = made
        return self._datasets[key]


class _Guard:
    """While it is entered, code that was made from a text does not run in this process.

    Modules may still be imported: their code has a file. A grader that catches what the hook raises
    is found out all the same, when the guard is left.
    """

    def __init__(self) -> None:
        self._hooked = self._inside = False
        self._tried = False

    def __enter__(self) -> None:
        if not self._hooked:  # a hook cannot be taken off again
            sys.addaudithook(self._hook)
            self._hooked = True
        self._inside, self._tried = True, False

    def __exit__(self, *_: object) -> None:
        self._inside = False
        if self._tried:
            raise EvaluatesText("the grader evaluates the answer as Python; nothing was run")

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._inside and event == "exec" and _made_from_text(arguments[0]):
            self._tried = True
            raise EvaluatesText


def _made_from_text(code: Any) -> bool:
    if not isinstance(code, CodeType):
        return True
    return code.co_filename.startswith("<") and not code.co_filename.startswith("<frozen ")


_GUARD = _Guard()
