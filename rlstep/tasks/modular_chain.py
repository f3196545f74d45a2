"""Chains of named operations modulo a prime: of any length, each step as hard as every other.

A problem is a line such as `ba=7be+5bi*2bo-9`: a start, and operations on it from left to right,
each under a name of its own. A solution has one step per line and ends with the answer, modulo 17
here:

    be+5=12
    bi*2=7
    bo-9=15
    #15

Names go round in one order and begin anywhere, so one says which operation comes next: nothing has
to be counted, and a step of a chain of 64 reads as one of a chain of 4 does. Starts are drawn
uniformly and every operation maps the residues one to one, so a fact such as `12*2=7` is as likely
at every place: a policy that recalls some facts wrongly errs with the same probability at each
step. What a step may say follows from the problem alone, so the first wrong step of any text is
known exactly.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from rlstep.checks import at_least, between
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.tasks.arithmetic import ANSWER
from rlstep.tasks.synthetic import closed_tokenizer, fitting
from rlstep.types import Prompt

MODULUS = 17
"""A prime: then multiplying by 2 to 9 maps the residues one to one."""
OPERATIONS = tuple(f"{sign}{operand}" for sign in "+-*" for operand in range(2, 10))
NAMES = tuple(c + v for c in "bdfgklmnprstvz" for v in "aeiou")
LONGEST = len(NAMES) - 1
"""Operations of a chain; its start has a name, too."""
_RESULTS = tuple(f"={value}" for value in range(MODULUS))
_ANSWERS = tuple(f"{ANSWER}{value}" for value in range(MODULUS))
_REPEATED = 10_000
"""Draws one after the other that give nothing new, after which a task has too few problems."""
_PROBLEM = re.compile(r"([a-z]{2})=(\d+)((?:[a-z]{2}[-+*]\d)+)\n")
_OPERATION = re.compile(r"([a-z]{2})([-+*]\d)")


def modular_chain_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast: a name, an operation, a result and an answer are a
    token each, so a step has four with its newline.

    `<pad>` is 0, `<eos>` 1. Anything else raises.
    """
    tokens = [*NAMES, *OPERATIONS, *_RESULTS, *_ANSWERS, "\n"]
    return closed_tokenizer(tokens, rf"[a-z]{{2}}|[-+*]\d|[={ANSWER}]\d+|\n", longest=512)


def apply(value: int, operation: str) -> int:
    """`+5` and its like on a residue."""
    operand = int(operation[1:])
    if operation[0] == "*":
        return value * operand % MODULUS
    return (value + operand if operation[0] == "+" else value - operand) % MODULUS


def chain(text: str) -> tuple[list[tuple[str, str]], list[int]]:
    """The n (name, operation) of a problem, and the n + 1 values along the chain.

    Raises:
        ValueError: the text is no problem of this task.
    """
    match = _PROBLEM.fullmatch(text)
    if match is None:
        raise ValueError(f"prompt.text is {text!r}; such a problem reads like 'ba=7be+5bi*2\\n'")
    named, values = _OPERATION.findall(match[3]), [int(match[2])]
    for _, operation in named:
        values.append(apply(values[-1], operation))
    return named, values


def problem(text: str, tokenizer: Tokenizer) -> Prompt:
    """The prompt of one problem, which is a line that ends with a newline."""
    named, values = chain(text)
    return Prompt(
        prompt_id=text.removesuffix("\n"),
        token_ids=np.array(tokenizer.encode(text, add_special_tokens=False), np.int32),
        text=text,
        answer=str(values[-1]),
        meta={"operations": len(named), "level": len(named) - 1},
    )


@dataclass(frozen=True, kw_only=True)
class ModularChain(Task):
    """Random chains of operations. A step oracle, too (see interfaces.StepOracle).

    The text of a problem decides whether it is for training or for evaluation, and says how long
    the chain is: no seed, size or length moves one across or makes it again. The text without its
    newline is also the prompt_id, operations less one the level.
    """

    operations: int = 8
    """Of each problem: the horizon K."""
    train: int = 4096
    """Number of training problems."""
    evaluation: int = 512
    """Number of evaluation problems."""
    seed: int = 0
    """Which problems are drawn."""

    def __post_init__(self) -> None:
        between("task.operations", self.operations, 2, LONGEST)
        at_least("task.train", self.train, 0)
        at_least("task.evaluation", self.evaluation, 0)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Make the problems. `dropped` counts those over `max_prompt_tokens` as 'too_long'."""
        train, evaluation = (
            [problem(text, tokenizer) for text in _drawn(self, split, number)]
            for split, number in (("train", self.train), ("evaluation", self.evaluation))
        )
        return fitting(train, evaluation, max_prompt_tokens)

    def first_error(self, prompt: Prompt, step_texts: Seq[str]) -> int | None:
        """Index of the first wrong step, or None where every step is right.

        A right step does the operation that comes next and states the true result; or it is the
        answer line, with every operation done, and ends the solution.
        """
        named, values = chain(prompt.text)
        right = [
            f"{name}{operation}={value}"
            for (name, operation), value in zip(named, values[1:], strict=True)
        ]
        right.append(f"{ANSWER}{values[-1]}")
        for index, text in enumerate(step_texts):
            if index >= len(right) or text.removesuffix("\n") != right[index]:
                return index
        return None

    def follow(self, prompt: Prompt, step_texts: Seq[str]) -> list[bool]:
        """Whether each step is right after the steps before it, whatever they are: an error is one
        wrong step, and one that goes on from it correctly is right.

        A step that is none in form, or is not the one that comes next, does not follow.
        """
        named, values = chain(prompt.text)
        value, found = values[0], []
        for index, text in enumerate(step_texts):
            line = text.removesuffix("\n")
            if index < len(named):
                name, operation = named[index]
                found.append(line == f"{name}{operation}={apply(value, operation)}")
                said = re.fullmatch(r"[a-z]{2}[-+*]\d=(\d+)", line)
                value = int(said[1]) if said else value
            else:
                found.append(index == len(named) and line == f"{ANSWER}{value}")
        return found

    def _texts(self) -> Iterator[str]:
        """Problems without end, of both splits."""
        rng = np.random.default_rng([self.seed, self.operations])
        while True:
            first, value = int(rng.integers(len(NAMES))), int(rng.integers(MODULUS))
            drawn = [OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=self.operations)]
            parts = [f"={value}", *drawn]
            names = (NAMES[(first + i) % len(NAMES)] for i in range(len(parts)))
            yield "".join(name + part for name, part in zip(names, parts, strict=True)) + "\n"


@lru_cache(maxsize=4)
def _drawn(task: ModularChain, split: str, number: int) -> tuple[str, ...]:
    """A split's problems: every eighth text, by its hash, is for evaluation. A run asks for them
    twice: to check them, and to begin.

    Raises:
        ValueError: there are too few problems for the number asked for.
    """
    texts: dict[str, None] = {}
    repeated = 0
    for text in task._texts():
        if len(texts) == number:
            break
        repeated += 1
        if repeated == _REPEATED:
            raise ValueError(
                f"task.{split} is {number}, but problems of {task.operations} operations repeat"
                f" after {len(texts)}; ask for fewer or longer ones"
            )
        if text not in texts and (zlib.crc32(text.encode()) % 8 == 0) == (split == "evaluation"):
            texts[text], repeated = None, 0
    return tuple(texts)


@cache
def recalled(value: int, operation: str) -> tuple[int, float]:
    """What a learner of mixed quality takes for the result of a fact where it is not careful, and
    how often it is not: the wrong residue and the error rate are the fact's own.

    Of the facts three in five are known (1 % wrong), three in ten are shaky (20 %), one in ten is
    nearly a guess (42 %): 11.6 % over all 408, and no fact is wrong more often than right.
    """
    rng = np.random.default_rng([value, OPERATIONS.index(operation), MODULUS])
    wrong = (apply(value, operation) + int(rng.integers(1, MODULUS))) % MODULUS
    kind = rng.random()
    return wrong, 0.01 if kind < 0.6 else 0.2 if kind < 0.9 else 0.42


def worked_solution(prompt: Prompt, rng: np.random.Generator, careless: float = 1.0) -> list[str]:
    """A solution as that learner would write it, one text per step.

    Args:
        prompt: a problem of this task.
        careless: what the error rates of `recalled` are multiplied by; 0 makes no error. What
            follows an error goes on from its result.
    """
    named, values = chain(prompt.text)
    value, steps = values[0], []
    for name, operation in named:
        wrong, rate = recalled(value, operation)
        value = wrong if rng.random() < careless * rate else apply(value, operation)
        steps.append(f"{name}{operation}={value}\n")
    return [*steps, f"{ANSWER}{value}"]
