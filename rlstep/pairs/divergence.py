"""Where the rollouts of one prompt part: a prefix of steps and the different steps after it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True, eq=False)
class Divergence:
    """A prefix of steps after which rollouts go on with different steps."""

    step: int
    """Index of the step that differs; the steps before it are the same, token by token, and so is
    what was observed between them."""
    siblings: tuple[tuple[Rollout, ...], ...]
    """For every different step the rollouts that took it, in the order they were given."""


def divergences(rollouts: Seq[Rollout]) -> list[Divergence]:
    """All prefixes with at least two different next steps, in order of first appearance.

    A rollout that ends after the prefix has no next step there. The work is linear in the tokens.
    """
    # By state, in order of first appearance: how many steps lead to it, and who took which next.
    depths: list[int] = []
    taken: list[dict[bytes, list[Rollout]]] = []
    states: dict[tuple[int, bytes], int] = {}

    def arrive(key: tuple[int, bytes], depth: int) -> int:
        if key not in states:
            states[key] = len(depths)
            depths.append(depth)
            taken.append({})
        return states[key]

    for rollout in rollouts:
        ids = rollout.completion.token_ids
        state = arrive((-1, ids[: rollout.before(0)].tobytes()), 0)
        for k, step in enumerate(rollout.steps):
            taken[state].setdefault(ids[step.start : step.end].tobytes(), []).append(rollout)
            state = arrive((state, ids[step.start : rollout.before(k + 1)].tobytes()), k + 1)
    return [
        Divergence(step=depth, siblings=tuple(tuple(through) for through in after.values()))
        for depth, after in zip(depths, taken, strict=True)
        if len(after) > 1
    ]
