"""Ranges in which a number is to be guessed: made, not downloaded (environments.guess_number)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlstep.checks import at_least, between
from rlstep.environments.guess_number import Play, read_range
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.tasks.synthetic import closed_tokenizer, conversation_samples, fitting
from rlstep.types import LabelSamples, Prompt

ALPHABET = "0123456789-<>?\n"
NEWLINE = 2 + ALPHABET.index("\n")
"""Its token id, which ends a guess."""


def guess_number_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast with one token per character of `ALPHABET`.

    `<pad>` is 0, `<eos>` 1. Any other character raises.
    """
    return closed_tokenizer(ALPHABET, r"[\s\S]")


@dataclass(frozen=True, kw_only=True)
class GuessNumberTask(Task):
    """Every number of every range of one size, numbers of two digits.

    Range and number decide together whether a problem is for training or, one in eight, for
    evaluation. The number does not show in the prompt: problems of one range read alike.
    """

    size: int = 31
    """Numbers of a range; halving finds every one of 2**n - 1 in n guesses."""
    lowest: int = 10
    """Ranges begin at 0 to `lowest`."""

    def __post_init__(self) -> None:
        between("task.size", self.size, 1, 100)
        at_least("task.lowest", self.lowest, 0)
        between("task.lowest", self.lowest, 0, 100 - self.size)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """All of them, in an order of their own. `dropped` counts what is too long."""
        prompts = [
            self._prompt(low, number, tokenizer)
            for low in range(self.lowest + 1)
            for number in range(low, low + self.size)
        ]
        prompts.sort(key=lambda prompt: _hash(prompt))
        train = [prompt for prompt in prompts if _hash(prompt) % 8]
        evaluation = [prompt for prompt in prompts if not _hash(prompt) % 8]
        return fitting(train, evaluation, max_prompt_tokens)

    def _prompt(self, low: int, number: int, tokenizer: Tokenizer) -> Prompt:
        text = f"{low:02d}-{low + self.size - 1:02d}\n"
        ids = tokenizer.encode(text, add_special_tokens=False)
        return Prompt(
            prompt_id=f"{text.strip()}/{number}",
            token_ids=np.array(ids, np.int32),
            text=text,
            answer=str(number),
        )


def _hash(prompt: Prompt) -> int:
    return zlib.crc32(prompt.prompt_id.encode())


def sft_samples(
    prompts: Seq[Prompt], guesses: int, play: Play, rng: np.random.Generator, tokenizer: Tokenizer
) -> LabelSamples:
    """One game of each prompt as a player plays it: guesses are next-token targets with weight 1,
    what the environment answers is read and not trained. No end-of-sequence token is written: a
    guess ends with its line."""
    games = [_game(prompt, guesses, play, rng) for prompt in prompts]
    return conversation_samples(prompts, games, tokenizer)


def _game(
    prompt: Prompt, guesses: int, play: Play, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Its guesses, each with what is answered; nothing after the last one."""
    number, seen, turns = int(prompt.answer), list[tuple[int, str]](), list[tuple[str, str]]()
    for turn in range(guesses):
        made = guess(prompt, seen, play, rng)
        if made == number or turn == guesses - 1:
            turns.append((f"{made:02d}\n", ""))
            break
        seen.append((made, "<" if number < made else ">"))
        turns.append((f"{made:02d}\n", f"{seen[-1][1]}\n"))
    return turns


def guess(prompt: Prompt, seen: list[tuple[int, str]], play: Play, rng: np.random.Generator) -> int:
    """The next guess of a player who remembers what came back.

    Args:
        seen: earlier guesses with '<' or '>'.
    """
    low, high = read_range(prompt.text)
    for number, sign in seen:
        low, high = (low, number - 1) if sign == "<" else (number + 1, high)
    return low + int(rng.choice(high - low + 1, p=play(high - low + 1)))
