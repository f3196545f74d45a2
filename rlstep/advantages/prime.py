"""Implicit process rewards and outcomes, each with its own leave-one-out baseline."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rlstep.advantages.arithmetic import Wide, less_others, suffix_sums
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    at_tokens,
    complete,
    first_tokens,
    outcome_values,
    per_token,
    together,
    token_values,
)
from rlstep.checks import at_least, between
from rlstep.measuring.ties import cleared
from rlstep.types import Group, Rollout


@dataclass(frozen=True, kw_only=True)
class Prime(AdvantageBuilder):
    """Returns of implicit token or step rewards, and the outcome, both leave-one-out.

    PRIME (Cui et al. 2025, arXiv:2502.01456, eq. 5) with the rewards of an implicit PRM
    (arXiv:2412.01981): 'implicit' token scores beta (log pi_phi - log pi_ref), any real number, are
    divided by the batch's largest |return|, so their scale, which drifts with the PRM, has no
    effect. Advantage of action t: process_coefficient times the discounted sum from t on of (reward
    - baseline), plus outcome_coefficient times (outcome - mean outcome of the others). The released
    code has both coefficients at 5 and normalises the sum over the batch: see Whitened.
    """

    laws: ClassVar[frozenset[str]] = frozenset({"one_token_steps_are_tokens"})

    level: Literal["token", "step"] = "token"
    """What one action is: a step's reward is the sum of its tokens'."""
    leave_one_out: Literal["paper", "code"] = "paper"
    """The process baseline. 'paper': the mean over the other rollouts of their mean reward. 'code'
    multiplies the reward by n / (n - 1) and subtracts the sum of all n mean rewards / (n - 1): the
    same mean over a rollout, but more spread around it."""
    gamma: float = 1.0
    """Discount of an action; in [0, 1]."""
    process_coefficient: float = 1.0
    """What the returns of implicit rewards are multiplied by."""
    outcome_coefficient: float = 1.0
    """What the outcome, less the mean of the others, is multiplied by."""

    sources: ClassVar[frozenset[str]] = frozenset({"outcome", "implicit"})

    def __post_init__(self) -> None:
        between("advantages.gamma", self.gamma, 0.0, 1.0)
        at_least("advantages.process_coefficient", self.process_coefficient, 0.0)
        at_least("advantages.outcome_coefficient", self.outcome_coefficient, 0.0)

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        known = [complete(group.rollouts, *self.sources) for group in groups]
        rewards = [[self._rewards(rollout) for rollout in rollouts] for rollouts in known]
        largest = max((np.abs(suffix_sums(r)).max() for group in rewards for r in group), default=0)
        scale = 1.0 / largest if largest > 0.0 else 0.0
        return [
            self._credit(rollouts, [scale * r for r in group])
            for rollouts, group in zip(known, map(together, rewards), strict=True)
        ]

    def _rewards(self, rollout: Rollout) -> Wide:
        """[S] or [K]: implicit reward of each action."""
        rewards = token_values(rollout, "implicit")
        if self.level == "token":
            return rewards
        return cleared(np.add.reduceat(rewards, first_tokens(rollout)), rewards)

    def _credit(self, rollouts: list[Rollout], rewards: list[Wide]) -> Credit:
        outcomes = self.outcome_coefficient * less_others(outcome_values(rollouts))
        credit = []
        for rollout, returns, outcome in zip(
            rollouts, self._process(rewards), outcomes, strict=True
        ):
            process = self.process_coefficient * returns
            column = cleared(process + outcome, process, outcome)
            spread = per_token if self.level == "step" else at_tokens
            credit.append((rollout, spread(rollout, column)))
        return credit

    def _process(self, rewards: list[Wide]) -> list[Wide]:
        """Discounted returns of the rewards less their baselines."""
        n = len(rewards)
        if n < 2:
            return [np.zeros(len(r)) for r in rewards]
        means = np.array([r.mean() for r in rewards])
        if self.leave_one_out == "paper":
            differences = [
                r - b for r, b in zip(rewards, (means.sum() - means) / (n - 1), strict=True)
            ]
        else:
            differences = [(n * r - means.sum()) / (n - 1) for r in rewards]
        return [cleared(suffix_sums(d, self.gamma), *rewards) for d in differences]
