"""Prompts with meta, and what was measured of them, for tests of curricula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlstep.interfaces import Choice, Draw, Measurement
from rlstep.testing.small import small_prompt
from rlstep.types import Prompt


def prompt(name: str, **meta: Any) -> Prompt:
    return replace(small_prompt(name), meta=meta)


def measured(iteration: int, **of: Any) -> list[Measurement]:
    """By prompt_id: how many of 8 are right, or the mean of the source 'reward' as a float."""
    return [
        Measurement(iteration=iteration, prompt_id=name, samples=8, correct=right,
                    scores={"outcome": right / 8})
        if isinstance(right, int)
        else Measurement(iteration=iteration, prompt_id=name, samples=8, correct=0,
                         scores={"reward": right})
        for name, right in of.items()
    ]  # fmt: skip


def draw(iteration: int = 0, size: int = 2, further: int = 0, seed: int = 0,
         measured: Sequence[Measurement] = ()) -> Draw:  # fmt: skip
    return Draw(iteration=iteration, size=size, further=further, seed=seed, measured=measured)


def ids(choice: Choice) -> list[str]:
    return [prompt.prompt_id for prompt in choice.prompts]
