"""Problems of arithmetic, written by the policy at an asked difficulty.

A prompt such as `#4=7*2` asks for a chain of 4 operations that begins with `7*2`; what the policy
should write is a problem of `tasks.arithmetic`, such as `7*2-5+3-9`. The opening gives the same
difficulty many prompts, and keeps those of evaluation apart. How hard a written problem is in fact,
the share of a solver's samples that are wrong says.

Difficulty-controlled question generation is usually scored by another model; here the exact rules
of the task decide whether a problem can be solved and is what was asked for.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import PromptSet, Task, Tokenizer, Verifier
from rlstep.tasks.arithmetic import Arithmetic, chain
from rlstep.tasks.synthetic import fitting
from rlstep.types import OutcomeScore, Prompt, Verdict

ASKED = re.compile(r"(\d+)=(.*)")
"""A reference: how many operations, and the opening."""


@dataclass(frozen=True, kw_only=True)
class ArithmeticWriting(Task):
    """Asks for problems of 1 to `levels` operations; `meta["level"]` is one less.

    Every opening is asked for at every level. The hash of the opening decides whether it is for
    training or for evaluation.
    """

    problems: Arithmetic = Arithmetic()
    """Whose numbers and limit hold for what is written; its operations, sizes and seed are not
    read."""
    levels: int = 10
    """So many difficulties: 1 operation is level 0."""

    def __post_init__(self) -> None:
        at_least("task.levels", self.levels, 1)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """`dropped` counts prompts over `max_prompt_tokens` as 'too_long'."""
        asked = [
            _prompt(level, opening, tokenizer)
            for opening in self.openings()
            for level in range(self.levels)
        ]
        held_out = [_held_out(prompt.meta["opening"]) for prompt in asked]
        return fitting(
            [prompt for prompt, out in zip(asked, held_out, strict=True) if not out],
            [prompt for prompt, out in zip(asked, held_out, strict=True) if out],
            max_prompt_tokens,
        )

    def openings(self) -> list[str]:
        """All first operations, in order: '2+2', '2+3', ..."""
        rules, numbers = self.problems, range(2, self.problems.largest_operand + 1)
        return [
            opening
            for first in numbers
            for operator in "+-*"
            for operand in numbers
            if rules.allows(opening := f"{first}{operator}{operand}")
        ]


@dataclass(frozen=True, kw_only=True)
class WrittenProblem(Verifier):
    """Whether a text is a problem that can be solved, opens as asked and has as many operations.

    CORRECT is all of it, WRONG a problem of another difficulty, opening or size of numbers,
    UNPARSABLE what is no problem at all or was cut off. `extracted` is the problem.
    """

    problems: Arithmetic = Arithmetic()
    """As the task's."""

    def verify(self, text: str, answer: str, finish_reason: str = "stop") -> OutcomeScore:
        asked = ASKED.fullmatch(answer)
        if asked is None:
            raise ValueError(f"answer is {answer!r}; the reference reads like '4=7*2'")
        written = text.removesuffix("\n")
        try:
            terms, _ = chain(written + "\n")
        except ValueError:
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
        if finish_reason == "length":
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
        correct = (
            len(terms) == int(asked[1])
            and re.match(rf"{re.escape(asked[2])}(?!\d)", written) is not None
            and self.problems.allows(written)
        )
        verdict = Verdict.CORRECT if correct else Verdict.WRONG
        return OutcomeScore(value=float(correct), verdict=verdict, extracted=written)


def drawn_problem(prompt: Prompt, problems: Arithmetic, rng: np.random.Generator) -> str:
    """A text that is right for a prompt of `ArithmeticWriting`, of the numbers of `problems`."""
    wanted = replace(problems, operations=prompt.meta["level"] + 1)
    return wanted.drawn_after(prompt.meta["opening"], rng)


def _prompt(level: int, opening: str, tokenizer: Tokenizer) -> Prompt:
    reference = f"{level + 1}={opening}"
    text = f"#{reference}\n"
    return Prompt(
        prompt_id=reference,
        token_ids=np.array(tokenizer.encode(text, add_special_tokens=False), np.int32),
        text=text,
        answer=reference,
        meta={"level": level, "opening": opening},
    )


def _held_out(opening: str) -> bool:
    """Every second opening, by the hash of its text."""
    return zlib.crc32(opening.encode()) % 2 == 0
