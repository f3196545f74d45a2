"""Chains of integer operations with an exact step oracle: made, not downloaded.

A problem is a line such as `38+47*7-59`, worked from left to right as on a pocket calculator. A
solution has one reasoning step per line and ends with the answer:

    38+47=85
    85*7=595
    595-59=536
    #536

A careful solution writes every intermediate result; a sloppy one does two operations in one step
(`38+47*7=595`), which is just as right if the result is. What a step may say follows from the
problem alone, so the first wrong step of any text is known exactly.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import PromptSet, Task, Tokenizer, Verifier
from rlstep.tasks.synthetic import closed_tokenizer, fitting, solution_samples
from rlstep.types import LabelSamples, OutcomeScore, Prompt, Verdict

ALPHABET = "0123456789+-*=#\n"
ANSWER = "#"
_PROBLEM = re.compile(r"(\d+)((?:[-+*]\d+)+)\n")
_TERM = re.compile(r"([-+*])(\d+)")


def arithmetic_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast with one token per character of `ALPHABET`.

    `<pad>` is 0, `<eos>` 1. Any other character raises: no problem and no solution contains one.
    """
    return closed_tokenizer(ALPHABET, r"[\s\S]")


def _apply(value: int, operator: str, operand: int) -> int:
    if operator == "*":
        return value * operand
    return value + operand if operator == "+" else value - operand


def chain(text: str) -> tuple[list[str], list[int]]:
    """The n operations of a problem as they are written, and the n + 1 values along the chain.

    Raises:
        ValueError: the text is no problem of this task.
    """
    match = _PROBLEM.fullmatch(text)
    if match is None:
        raise ValueError(f"prompt.text is {text!r}; an arithmetic problem reads like '38+47*7\\n'")
    terms, values = [], [int(match[1])]
    for operator, operand in _TERM.findall(match[2]):
        terms.append(operator + operand)
        values.append(_apply(values[-1], operator, int(operand)))
    return terms, values


def problem(text: str, tokenizer: Tokenizer) -> Prompt:
    """The prompt of one problem, which is a line that ends with a newline."""
    terms, values = chain(text)
    return Prompt(
        prompt_id=text.removesuffix("\n"),
        token_ids=np.array(tokenizer.encode(text, add_special_tokens=False), np.int32),
        text=text,
        answer=str(values[-1]),
        meta={"operations": len(terms), "level": len(terms) - 1},
    )


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Task):
    """Random chains of operations. A step oracle, too (see interfaces.StepOracle).

    The text of a problem decides whether it is for training or for evaluation, so no seed or size
    moves one across. The text without its newline is also the prompt_id, operations less one the
    level.
    """

    operations: int = 5
    """Of each problem; a chain has one operand more."""
    largest_operand: int = 99
    """Added and subtracted numbers, and the first one, lie in [2, largest_operand]."""
    largest_factor: int = 9
    """Factors lie in [2, largest_factor]; 1 leaves multiplication out."""
    limit: int = 999
    """Every value along the chain lies in [0, limit]."""
    train: int = 4096
    """Number of training problems."""
    evaluation: int = 512
    """Number of evaluation problems."""
    seed: int = 0
    """Which problems are drawn."""

    def __post_init__(self) -> None:
        at_least("task.operations", self.operations, 1)
        at_least("task.largest_operand", self.largest_operand, 2)
        at_least("task.largest_factor", self.largest_factor, 1)
        at_least("task.limit", self.limit, self.largest_operand + 2)
        at_least("task.train", self.train, 0)
        at_least("task.evaluation", self.evaluation, 0)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Make the problems. `dropped` counts those over `max_prompt_tokens` as 'too_long'."""
        train = self._prompts("train", self.train, tokenizer)
        evaluation = self._prompts("evaluation", self.evaluation, tokenizer)
        return fitting(train, evaluation, max_prompt_tokens)

    def first_error(self, prompt: Prompt, step_texts: Seq[str]) -> int | None:
        """Index of the first wrong step, or None where every step is right.

        A right step takes the value reached so far, one or more of the operations that come next,
        and states the true result; or it is the answer line, with every operation done, and ends
        the solution.
        """
        terms, values = chain(prompt.text)
        done = 0
        answered = False
        for index, text in enumerate(step_texts):
            line = text.removesuffix("\n")
            right = {f"{values[done]}{''.join(terms[done:end])}={values[end]}": end
                     for end in range(done + 1, len(values))}  # fmt: skip
            if line in right and not answered:
                done = right[line]
            elif line == f"{ANSWER}{values[-1]}" and done == len(terms) and not answered:
                answered = True
            else:
                return index
        return None

    def allows(self, text: str) -> bool:
        """Whether a chain, written without its newline, keeps to the numbers of this task: every
        operand in its range and written as a number is, every value along the chain in [0, limit].

        Raises:
            ValueError: the text is no chain.
        """
        terms, values = chain(text + "\n")
        operands = [("+", text[: len(text) - len("".join(terms))])]
        operands += [(term[0], term[1:]) for term in terms]
        return all(0 <= value <= self.limit for value in values) and all(
            str(int(number)) == number
            and 2 <= int(number) <= (self.largest_factor if sign == "*" else self.largest_operand)
            for sign, number in operands
        )

    def drawn_after(self, opening: str, rng: np.random.Generator) -> str:
        """A chain of `operations` without its newline, whose first ones are those of `opening`."""
        terms, values = chain(opening + "\n")
        return opening + self._operations(values[-1], self.operations - len(terms), rng)

    def _prompts(self, split: str, number: int, tokenizer: Tokenizer) -> list[Prompt]:
        return [problem(text, tokenizer) for text in _drawn(self, split, number)]

    def _texts(self, rng: np.random.Generator) -> Iterator[str]:
        """Problems without end, of both splits, with repetitions.

        Raises:
            ValueError: the settings allow too few problems for the number asked for.
        """
        seen: set[str] = set()
        repeated = 0
        while repeated < 10_000:
            text = self._text(rng)
            repeated = repeated + 1 if text in seen else 0
            seen.add(text)
            yield text
        raise ValueError(
            f"task.train is {self.train} and task.evaluation {self.evaluation}, but problems of "
            f"{self.operations} operations repeat after {len(seen)}; ask for fewer or harder ones"
        )

    def _text(self, rng: np.random.Generator) -> str:
        value = int(rng.integers(2, self.largest_operand + 1))
        return f"{value}{self._operations(value, self.operations, rng)}\n"

    def _operations(self, value: int, number: int, rng: np.random.Generator) -> str:
        """So many, one after the other, on a value."""
        text = ""
        for _ in range(number):
            largest = {
                "+": min(self.largest_operand, self.limit - value),
                "-": min(self.largest_operand, value),
                "*": min(self.largest_factor, self.limit // max(value, 1)),
            }
            operators = [o for o, bound in largest.items() if bound >= 2]
            operator = operators[rng.integers(len(operators))]
            operand = int(rng.integers(2, largest[operator] + 1))
            value = _apply(value, operator, operand)
            text += f"{operator}{operand}"
        return text


@lru_cache(maxsize=4)
def _drawn(task: Arithmetic, split: str, number: int) -> tuple[str, ...]:
    """A split's problems. A run asks for them twice: to check them, and to begin."""
    texts: dict[str, None] = {}
    for text in task._texts(np.random.default_rng([task.seed, zlib.crc32(split.encode())])):
        if len(texts) == number:
            break
        if _split(text) == split:
            texts[text] = None
    return tuple(texts)


def _split(text: str) -> str:
    """Every eighth problem, by the hash of its text, is for evaluation."""
    return "evaluation" if zlib.crc32(text.encode()) % 8 == 0 else "train"


@dataclass(frozen=True, kw_only=True)
class AnswerLine(Verifier):
    """Reads `#14` from the last line and compares it with the reference, as text.

    An answer at which `max_tokens` cut the completion off is unparsable.
    """

    def verify(self, text: str, answer: str, finish_reason: str = "stop") -> OutcomeScore:
        match = re.fullmatch(rf"{ANSWER}(\d+)", text.rpartition("\n")[2])
        if match is None or finish_reason == "length":
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
        correct = match[1] == answer
        verdict = Verdict.CORRECT if correct else Verdict.WRONG
        return OutcomeScore(value=float(correct), verdict=verdict, extracted=match[1])


def worked_solution(prompt: Prompt, rng: np.random.Generator, sloppy: float) -> list[str]:
    """A solution as a learner of mixed quality would write it, one text per step.

    Careful, it writes every intermediate result and is right. Sloppy, it does two operations in one
    step, and forgets the second one where that is a multiplication: the step is wrong then, and
    what follows goes on from its result (a difference under 0 is taken as 0).

    Args:
        prompt: a problem of this task.
        sloppy: probability of the sloppy way, drawn for every step.
    """
    terms, values = chain(prompt.text)
    value, steps, done = values[0], [], 0
    while done < len(terms):
        taken = terms[done : done + (2 if rng.random() < sloppy else 1)]
        result = value
        for place, term in enumerate(taken):
            if place == 0 or term[0] != "*":
                result = max(0, _apply(result, term[0], int(term[1:])))
        steps.append(f"{value}{''.join(taken)}={result}\n")
        value, done = result, done + len(taken)
    return [*steps, f"{ANSWER}{value}"]


def sft_samples(
    prompts: Seq[Prompt], rng: np.random.Generator, sloppy: float, tokenizer: Tokenizer
) -> LabelSamples:
    """One worked solution per problem to train on (see `synthetic.solution_samples`)."""
    solutions = [worked_solution(prompt, rng, sloppy) for prompt in prompts]
    return solution_samples(prompts, solutions, tokenizer)
