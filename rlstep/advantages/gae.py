"""Generalised advantage estimation with a critic, over tokens or over steps."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rlstep.advantages.arithmetic import Wide, gae, lambda_returns
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    at_tokens,
    complete,
    first_tokens,
    per_token,
    step_lengths,
    step_values,
    token_values,
)
from rlstep.checks import between
from rlstep.measuring.ties import cleared
from rlstep.tensors.sequences import sequence
from rlstep.types import Floats, Group, LabelSamples, Rollout, TokenScores


@dataclass(frozen=True, kw_only=True)
class Gae(AdvantageBuilder):
    """Generalised advantages from a critic's values, with tokens or whole steps as the actions.

    Schulman et al. 2016 (arXiv:1506.02438). The values of 'critic' are those of the state BEFORE an
    action: token scores [T] hold V(prompt and the t tokens before token t), step scores [K] hold
    V(prompt and the k steps before step k); with level 'step', token scores are read at the steps'
    first tokens. Observed tokens are part of the states, and no actions. After the last action the
    value is 0. The reward is the outcome, at the last action, in the range of the outcomes, which
    is also the values'.
    """

    level: Literal["token", "step"] = "token"
    """What one action is. All tokens of a step share its advantage."""
    gamma: float = 1.0
    """Discount of an action; in [0, 1]."""
    lam: float = 0.95
    """Lambda: 1 gives returns less values, 0 one-step differences; in [0, 1]."""
    step_source: str = ""
    """Step scores that are added as rewards, each at its step's last token; '' for none."""

    def __post_init__(self) -> None:
        between("advantages.gamma", self.gamma, 0.0, 1.0)
        between("advantages.lam", self.lam, 0.0, 1.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", "critic", self.step_source} - {""})

    @property
    def laws(self) -> frozenset[str]:
        by_differences = self.gamma == 1.0 and not self.step_source
        shift = {"score_shift_changes_nothing"} if by_differences else set()
        return frozenset({"one_token_steps_are_tokens"} | shift)

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        known = [complete(group.rollouts, *self.sources) for group in groups]
        return [[(rollout, self._advantages(rollout)) for rollout in group] for group in known]

    def _advantages(self, rollout: Rollout) -> Wide:
        rewards, values = self._rewards(rollout), self._values(rollout)
        result = cleared(gae(rewards, values, self.gamma, self.lam), rewards, values)
        return (per_token if self.level == "step" else at_tokens)(rollout, result)

    def _values(self, rollout: Rollout) -> Wide:
        """[S] or [K]: the value of the state before each action: after what was observed."""
        if self.level == "token":
            return token_values(rollout, "critic")
        if isinstance(rollout.scores["critic"], TokenScores):
            return token_values(rollout, "critic")[first_tokens(rollout)]
        return step_values(rollout, "critic")

    def _rewards(self, rollout: Rollout) -> Wide:
        """[S] or [K]: the reward of each action."""
        assert rollout.outcome is not None  # complete
        steps = step_values(rollout, self.step_source) if self.step_source else 0.0
        if self.level == "step":
            rewards = np.zeros(len(rollout.steps)) + steps
        else:
            lengths = step_lengths(rollout)
            rewards = np.zeros(lengths.sum())
            rewards[np.cumsum(lengths) - 1] = steps
        rewards[-1] += rollout.outcome.value
        return rewards

    def value_labels(self, rollouts: Seq[Rollout]) -> LabelSamples:
        """What to train the critic on: lambda-returns at the positions where it is read.

        A scalar head at position p has seen the tokens up to p, so the value before completion
        token t is its output one position earlier: for the first token at the prompt's last one,
        which has step_index -1. With level 'step' only the position before each step is trained.
        Rollouts with a failed score are left out, as are the states inside what a branch inherited.
        """
        known = complete(rollouts, *self.sources)
        columns = [self._labels(rollout) for rollout in known]
        return LabelSamples(
            sequences=tuple(
                replace(sequence(rollout), loss_mask=weights > 0.0)
                for rollout, (_, weights) in zip(known, columns, strict=True)
            ),
            targets=tuple(targets for targets, _ in columns),
            weights=tuple(weights for _, weights in columns),
        )

    def _labels(self, rollout: Rollout) -> tuple[Floats, Floats]:
        """float32 [L] targets and weights of one rollout."""
        returns = lambda_returns(
            self._rewards(rollout), self._values(rollout), self.gamma, self.lam
        )
        at = np.flatnonzero(rollout.completion.sampled)
        if self.level == "step":
            at = np.array([step.start for step in rollout.steps])
        own = at >= rollout.inherited
        prompt, completion = rollout.prompt.token_ids, rollout.completion.token_ids
        targets, weights = np.zeros((2, len(prompt) + len(completion)), dtype=np.float32)
        targets[len(prompt) + at[own] - 1] = returns[own]
        weights[len(prompt) + at[own] - 1] = 1.0
        return targets, weights
