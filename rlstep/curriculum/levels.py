"""What a prompt's level is."""

from __future__ import annotations

from collections.abc import Sequence

from rlstep.types import Prompt

LEVEL = "level"
"""The entry of a prompt's meta that has it."""


def level_of(prompt: Prompt, field: str) -> int:
    """An int from 0, higher for harder problems.

    Args:
        field: of who asks, for the message.

    Raises:
        ValueError: the prompt has none.
    """
    level = prompt.meta.get(LEVEL)
    if isinstance(level, int) and not isinstance(level, bool) and level >= 0:
        return level
    raise ValueError(
        f"{field} goes by levels, and prompt {prompt.prompt_id!r} has {LEVEL} {level!r} in its meta"
        f" (which has {sorted(prompt.meta)}); it needs an int from 0: a task of levels, or"
        " curriculum Shuffled()"
    )


def by_level(prompts: Sequence[Prompt], field: str) -> dict[int, list[Prompt]]:
    """The prompts of every level, the lowest first. Raises as `level_of`."""
    found: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        found.setdefault(level_of(prompt, field), []).append(prompt)
    return dict(sorted(found.items()))
