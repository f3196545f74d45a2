"""Where the rollouts of one prompt part: a prefix of steps and the different steps after it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rlstep.types import Rollout


@dataclass(frozen=True, kw_only=True, eq=False)
class Divergence:
    """A prefix of steps after which rollouts go on with different steps."""

    step: int
    """Index of the step that differs; the steps before it are the same, token by token."""
    siblings: tuple[tuple[Rollout, ...], ...]
    """For every different step the rollouts that took it, in the order they were given."""


def divergences(rollouts: Seq[Rollout]) -> list[Divergence]:
    """All prefixes with at least two different next steps, in order of first appearance.

    A rollout that ends after the prefix has no next step there. The work is linear in the tokens.
    """
    # By node of the tree, the root first: tokens of a next step -> (its node, who took it).
    children: list[dict[bytes, tuple[int, list[Rollout]]]] = [{}]
    depths = [0]
    for rollout in rollouts:
        node = 0
        for step in rollout.steps:
            ids = rollout.completion.token_ids[step.start : step.end].tobytes()
            if ids not in children[node]:
                children[node][ids] = (len(children), [])
                children.append({})
                depths.append(depths[node] + 1)
            node, through = children[node][ids]
            through.append(rollout)
    return [
        Divergence(step=depth, siblings=tuple(tuple(through) for _, through in after.values()))
        for depth, after in zip(depths, children, strict=True)
        if len(after) > 1
    ]
