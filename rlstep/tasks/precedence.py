"""Expressions in which multiplication comes first: made, not downloaded, for a policy with a tool.

A problem is a line such as `7+2*3-4`; its answer is what mathematics says, 9. Who reckons by itself
goes from left to right, whatever the operators are, and is right only where that is the same:

    7+2=9
    9*3=27
    27-4=23
    #23

Who calls the calculator is right (observed text is indented here):

    <tool_call>{"name": "calculator", "arguments": {"expression": "7+2*3-4"}}</tool_call>
        9
    #9
"""

from __future__ import annotations

import json
import math
import re
import string
import zlib
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.tasks.synthetic import closed_tokenizer, conversation_samples, fitting
from rlstep.types import LabelSamples, Prompt

PIECES = (
    *("<tool_call>", "</tool_call>", '{"name": "', "calculator", '", "arguments": {"'),
    *("expression", '": "', '"}}'),
)
"""Of a call, each a token. Every printable character is one, too: an error can say anything."""
_CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " \n"
_DRAWS = 1000
"""Most draws in a row that bring no new problem."""


def precedence_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast of printable ASCII and the `PIECES` of a call.

    `<pad>` is 0, `<eos>` 1. Any other character raises.
    """
    pieces = "|".join(map(re.escape, PIECES))
    return closed_tokenizer([*PIECES, *_CHARACTERS], rf"{pieces}|[\s\S]")


@dataclass(frozen=True, kw_only=True)
class Precedence(Task):
    """Random expressions of sums and differences with at least one product, without brackets.

    The text of a problem decides whether it is for training or for evaluation, so no seed or size
    moves one across. Without its newline it is also the prompt_id.
    """

    operations: int = 3
    """Of each problem; an expression has one operand more."""
    largest_operand: int = 9
    """Operands lie in [2, largest_operand]."""
    limit: int = 99
    """The answer, and every value on the way from left to right, lies in [0, limit]."""
    train: int = 4096
    """Number of training problems."""
    evaluation: int = 512
    """Number of evaluation problems."""
    seed: int = 0
    """Which problems are drawn."""

    def __post_init__(self) -> None:
        at_least("task.operations", self.operations, 1)
        at_least("task.largest_operand", self.largest_operand, 2)
        at_least("task.limit", self.limit, self.largest_operand)
        at_least("task.train", self.train, 0)
        at_least("task.evaluation", self.evaluation, 0)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Make the problems. `dropped` counts those over `max_prompt_tokens` as 'too_long'.

        Raises:
            ValueError: there are fewer problems than are asked for.
        """
        rng = np.random.default_rng(self.seed)
        found: dict[bool, dict[str, Prompt]] = {True: {}, False: {}}
        missing = {True: self.evaluation, False: self.train}
        repeated = 0
        while any(len(found[held]) < missing[held] for held in found):
            text = self._text(rng)
            held = zlib.crc32(text.encode()) % 8 == 0
            repeated += 1
            if self._fits(text) and text not in found[held] and len(found[held]) < missing[held]:
                found[held][text] = _prompt(text, tokenizer)
                repeated = 0
            if repeated == _DRAWS:
                raise ValueError(
                    f"task.train is {self.train} and task.evaluation {self.evaluation}, of which"
                    f" {len(found[False])} and {len(found[True])} were found; ask for fewer or"
                    " larger problems"
                )
        train, evaluation = (list(found[held].values()) for held in (False, True))
        return fitting(train, evaluation, max_prompt_tokens)

    def _text(self, rng: np.random.Generator) -> str:
        first, *operands = rng.integers(2, self.largest_operand + 1, self.operations + 1).tolist()
        operators = rng.integers(3, size=self.operations).tolist()
        terms = zip(operators, operands, strict=True)
        return str(first) + "".join(f"{'+-*'[operator]}{operand}" for operator, operand in terms)

    def _fits(self, text: str) -> bool:
        if "*" not in text:
            return False
        values = [value(text), *(after for _, after in from_left_to_right(text))]
        return all(0 <= each <= self.limit for each in values)


def value(text: str) -> int:
    """What an expression of this task is worth: products first."""
    total = 0
    for sign, product in re.findall(r"([+-]?)([\d*]+)", text):
        worth = math.prod(map(int, product.split("*")))
        total += -worth if sign == "-" else worth
    return total


def from_left_to_right(text: str) -> list[tuple[str, int]]:
    """One operation after the other as it stands: its text, such as '9*3', and what comes out."""
    first, *_ = re.findall(r"\d+", text)
    done, reached = list[tuple[str, int]](), int(first)
    for operator, operand in re.findall(r"([-+*])(\d+)", text):
        number = int(operand)
        after = {"+": reached + number, "-": reached - number, "*": reached * number}[operator]
        done.append((f"{reached}{operator}{operand}", after))
        reached = after
    return done


def _prompt(text: str, tokenizer: Tokenizer) -> Prompt:
    return Prompt(
        prompt_id=text,
        token_ids=np.array(tokenizer.encode(f"{text}\n", add_special_tokens=False), np.int32),
        text=f"{text}\n",
        answer=str(value(text)),
    )


def sft_samples(
    prompts: Seq[Prompt], rng: np.random.Generator, by_itself: float, tokenizer: Any
) -> LabelSamples:
    """One conversation of each prompt: with the calculator and right, or by itself from left to
    right. What is said is a next-token target with weight 1, what is observed is read and not
    trained; each turn ends with the end-of-sequence token, `PlainTurns` between them.

    Args:
        by_itself: probability of the second.
    """
    talks = [_talk(p, rng.random() < by_itself, tokenizer.eos_token) for p in prompts]
    return conversation_samples(prompts, talks, tokenizer)


def _talk(prompt: Prompt, by_itself: bool, end: str) -> list[tuple[str, str]]:
    expression = prompt.text.strip()
    if by_itself:
        done = from_left_to_right(expression)
        lines = "".join(f"{said}={reached}\n" for said, reached in done)
        return [(f"{lines}#{done[-1][1]}{end}", "")]
    call = json.dumps({"name": "calculator", "arguments": {"expression": expression}})
    answer = prompt.answer
    return [(f"<tool_call>{call}</tool_call>{end}", f"\n{answer}\n"), (f"#{answer}{end}", "")]
