"""Advantages of steps with a bonus for the progress that a better prover would make of them."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np

from rlstep.advantages.arithmetic import Wide
from rlstep.advantages.assemble import AdvantageBuilder, Credit, per_token
from rlstep.advantages.prefix_values import prefix_values
from rlstep.checks import at_least, named
from rlstep.types import Group


@dataclass(frozen=True, kw_only=True)
class Pav(AdvantageBuilder):
    """The policy's advantage of a step, plus alpha times that of a best-of-K prover.

    Process advantage verifiers (Setlur et al. 2024, arXiv:2410.08146): the effective reward of a
    step is Q + alpha A_prover, with Q the policy's value after the step (after the last one the
    outcome), A_prover the prover's value after it less that before it, and V_prover =
    1 - (1 - V)^K. Here Q is reduced by its baseline, the policy's value before the step, which
    leaves the expected gradient as it is. Values are shares of correct continuations, in [0, 1].
    """

    source: str = "monte_carlo"
    """Whose values of the prefix after each step."""
    prover_samples: int = 4
    """K: the prover is the best of so many completions of the policy. At 1 it is the policy."""
    alpha: float = 3.0
    """Coefficient of the prover's advantage."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source)
        at_least("advantages.prover_samples", self.prover_samples, 1)
        at_least("advantages.alpha", self.alpha, 0.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", self.source})

    @property
    def laws(self) -> frozenset[str]:
        return frozenset({"one_step_is_outcome"} if self.prover_samples == 1 else ())

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        return [
            [
                (rollout, per_token(rollout, self.effective_rewards(values) - values[:-1]))
                for rollout, values in prefix_values(group, self.source)
            ]
            for group in groups
        ]

    def effective_rewards(self, values: Wide) -> Wide:
        """Q + alpha A_prover of each step, [K], from the values before, between and after, [K + 1].

        Values outside of [0, 1] have no best-of-K; they must be probabilities.
        """
        prover = 1.0 - (1.0 - values) ** self.prover_samples
        return values[1:] + self.alpha * np.diff(prover)
