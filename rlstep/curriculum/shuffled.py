"""All prompts in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from rlstep.interfaces import Choice, Curriculum, Draw
from rlstep.types import Prompt

_FURTHER = 1
"""Keeps the random order of further prompts apart from the epochs'."""


@dataclass(frozen=True, kw_only=True)
class Shuffled(Curriculum):
    """Every prompt once an epoch, in an order that is a new one each time."""

    def choose(self, prompts: Sequence[Prompt], draw: Draw) -> Choice:
        return Choice(prompts=taken(prompts, draw))


def taken(pool: Sequence[Prompt], draw: Draw) -> list[Prompt]:
    """`draw.size` prompts of a pool by its epochs, and up to `draw.further` others of it, which
    are drawn anew each iteration and so are no part of the epochs.

    Args:
        pool: at least `draw.size`, none twice.
    """
    batch = batch_of_prompts(pool, draw.iteration, draw.size, draw.seed)
    if not draw.further:
        return batch
    chosen = {prompt.prompt_id for prompt in batch}
    order = np.random.default_rng([draw.seed, draw.iteration, _FURTHER]).permutation(len(pool))
    others = [pool[i] for i in order if pool[i].prompt_id not in chosen]
    return batch + others[: draw.further]


def batch_of_prompts(
    prompts: Sequence[Prompt], iteration: int, size: int, seed: int
) -> list[Prompt]:
    """The prompts of one iteration: consecutive parts of permutations, a new one an epoch.

    A short last part of an epoch is filled up from the start of the same permutation, so that no
    batch holds a prompt twice: ids and seeds are named after the prompt.

    Args:
        size: at most the number of prompts.
    """
    assert size <= len(prompts)
    epoch, part = divmod(iteration, ceil(len(prompts) / size))
    order = np.random.default_rng([seed, epoch]).permutation(len(prompts))
    return [prompts[order[i % len(prompts)]] for i in range(part * size, (part + 1) * size)]
