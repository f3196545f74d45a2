"""Advantages of steps from Monte-Carlo values of the prefixes around them."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.advantages.assemble import AdvantageBuilder, Credit, per_token
from rlstep.advantages.prefix_values import prefix_values
from rlstep.checks import named
from rlstep.types import Group


@dataclass(frozen=True, kw_only=True)
class Vine(AdvantageBuilder):
    """A step's advantage is the value after it less the value before it, from continuations.

    VinePPO (Kazemnejad et al. 2024, arXiv:2410.01679, section 4): r_k + V(s_k+1) - V(s_k), with the
    outcome as the reward of the last step, V = 0 after it, and no discount. V(s_0) is the mean
    outcome of the prompt's independent rollouts, later values are the share k/n of continuations
    from a prefix that end correct, in [0, 1]. All tokens of a step share its advantage. The
    released code also normalises over the batch: see Whitened.

    In the paper V comes of fresh continuations alone: `MonteCarlo(own_outcome=False)`. With
    `own_outcome` a rollout's own verdict is one of the n in its V(s_k), so that its baseline
    depends on the actions it judges, and a step's advantage is drawn towards 0.

    Over turns of conversations, whose histories branch, this compares a turn with what else could
    follow the same history. The other choice is the other rollouts' turn of the same number
    (`StepSum(source="environment")`): what that says of a turn is off by V(history) less the mean
    of the others' values. Where two histories are worth 3/4 and 1/4, a move that loses 1/4 in the
    better one and a move that wins 1/4 in the worse one have a mean credit of 0 there, and -1/4 and
    1/4 here. The offset cancels in the mean gradient; it is noise in every turn's, and a bias
    wherever the advantage itself is read: its sign, its size, its scale.
    """

    laws: ClassVar[frozenset[str]] = frozenset(
        {"one_step_is_outcome", "score_shift_changes_nothing"}
    )

    source: str = "monte_carlo"
    """Whose values of the prefix after each step."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", self.source})

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        return [
            [
                (rollout, per_token(rollout, np.diff(values)))
                for rollout, values in prefix_values(group, self.source)
            ]
            for group in groups
        ]
