"""A number is guessed, and every guess is told where the number is: turns whose values are known.

The prompt is a range such as `03-33`, the answer the number. A turn is one guess; what comes back
is `<` where the number is smaller, `>` where it is greater, `?` where the turn was no number of the
range. The best play halves the range; whoever guesses anywhere in what is left needs longer.

    03-33
    15
    >
    27
    <
    20
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rlstep.checks import at_least
from rlstep.interfaces import Environment, Episode
from rlstep.types import Action, Observation, Prompt

_RANGE = re.compile(r"(\d+)-(\d+)\n?")


def read_range(text: str) -> tuple[int, int]:
    """Lowest and highest number of a prompt's text.

    Raises:
        ValueError: the text is no range.
    """
    match = _RANGE.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"prompt.text is {text!r}; a range to guess in reads like '03-33\\n'")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, kw_only=True)
class GuessNumber(Environment):
    """Answers guesses; the turn that finds the number has reward 1, every other one 0."""

    copies: ClassVar[bool] = True

    guesses: int = 5
    """Turns until the number counts as not found."""
    shaped: bool = False
    """Whether a turn's reward is what it changed of the best play's `chance`, the shaping that
    changes no optimal play (Ng, Harada & Russell 1999, ICML, theorem 1): a guess of the middle has
    0, a worse one less, and only luck is worth more. The turns of a game sum to 1 or 0, less the
    chance at its start."""

    def __post_init__(self) -> None:
        at_least("environment.guesses", self.guesses, 1)

    def reset(self, prompt: Prompt, seed: int) -> Episode:
        """`seed` is not used: the number is the prompt's answer."""
        low, high = read_range(prompt.text)
        return _Guessing(low, high, int(prompt.answer), self.guesses, self.shaped, low, high)


@dataclass
class _Guessing(Episode):
    low: int
    high: int
    number: int
    left: int
    shaped: bool
    lowest: int
    """Of what the answers so far have left of the range."""
    highest: int

    def observe(self, action: Action) -> Observation:
        before = chance(self.highest - self.lowest + 1, self.left)
        self.left -= 1
        word = action.text.strip()
        guess = int(word) if word.isascii() and word.isdecimal() else -1
        if guess == self.number:
            reward = 1.0 - before if self.shaped else 1.0
            return Observation(reward=reward, done=True, success=True)
        known = self.low <= guess <= self.high
        sign = "<" if self.number < guess else ">"
        if known and sign == "<":
            self.highest = min(self.highest, guess - 1)
        elif known:
            self.lowest = max(self.lowest, guess + 1)
        after = chance(self.highest - self.lowest + 1, self.left)
        done = not self.left
        return Observation(
            text=sign if known else "?",
            reward=after - before if self.shaped else 0.0,
            done=done,
            success=False if done else None,
        )


def chance(left: int, guesses: int) -> float:
    """How likely the best play finds a number in so many guesses: halving reaches 2**guesses - 1 of
    those that are left. In [0, 1]; `value(halving, left, guesses)`."""
    return min(left, 2**guesses - 1) / left


Play = Callable[[int], list[float]]
"""(numbers that are left) -> how likely each of them is guessed next."""


def anywhere(left: int) -> list[float]:
    """Any number of what is left, each as likely."""
    return [1.0 / left] * left


def halving(left: int) -> list[float]:
    """The middle of what is left: no play finds the number more often."""
    return [float(i == left // 2) for i in range(left)]


def value(play: Play, left: int, guesses: int) -> float:
    """How likely a number that is as likely anywhere in what is left is found in so many guesses.

    The exact value of a turn, by dynamic programming: what is left after a guess is a range again,
    and how long it is all that matters. A guess of one of `left` numbers finds it in 1 of `left`
    cases, and leaves the i numbers below it in i of `left`.
    """

    @lru_cache(None)
    def found(left: int, guesses: int) -> float:
        if left < 1 or guesses < 1:
            return 0.0
        after = [
            (1 + i * found(i, guesses - 1) + (left - 1 - i) * found(left - 1 - i, guesses - 1))
            for i in range(left)
        ]
        return sum(p * worth / left for p, worth in zip(play(left), after, strict=True))

    return found(left, guesses)
