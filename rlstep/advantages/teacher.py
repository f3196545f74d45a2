"""Advantages from what a teacher thinks of the policy's own samples."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rlstep.advantages.arithmetic import Wide, suffix_sums
from rlstep.advantages.assemble import (
    AdvantageBuilder,
    Credit,
    at_tokens,
    complete,
    per_token,
    step_values,
    token_values,
)
from rlstep.checks import between, named
from rlstep.measuring.ties import cleared
from rlstep.types import Group, Rollout, StepScores


@dataclass(frozen=True, kw_only=True)
class TeacherAdvantages(AdvantageBuilder):
    """The discounted sum of log(teacher / policy) from each action on: on-policy distillation.

    With `Teacher`'s token scores, drawn from the policy itself, the policy gradient is that of
    minus a reverse KL, without a baseline, which it does not need to be unbiased:

        gamma 0   sum_t KL(policy, teacher | prefix t), prefixes held fixed (GKD with reverse KL,
                  Agarwal et al. 2023, arXiv:2306.13649): little variance, and blind to where a
                  token leads
        gamma 1   KL(policy, teacher) of whole completions (MiniLLM, Gu et al. 2023,
                  arXiv:2306.08543, section 2.2), of large variance

    With step scores (`Teacher(level="step")`) an action is a step and its reward the mean of its
    tokens', which all of them share. No group is compared: prompts of one sample, and of samples
    that are all wrong, teach as well. `Mixture(outcome=GroupAdvantages(),
    process=TeacherAdvantages(), process_coefficient=0.1)` adds the outcome.
    """

    source: str = "teacher"
    """Whose token or step scores."""
    gamma: float = 0.0
    """Discount of an action; in [0, 1]."""

    def __post_init__(self) -> None:
        named("advantages.source", self.source, "teacher's scores, for instance 'teacher'")
        between("advantages.gamma", self.gamma, 0.0, 1.0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({self.source})

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        known = [complete(group.rollouts, self.source) for group in groups]
        return [[(rollout, self._returns(rollout)) for rollout in group] for group in known]

    def _returns(self, rollout: Rollout) -> Wide:
        if isinstance(rollout.scores[self.source], StepScores):
            return per_token(rollout, self._discounted(step_values(rollout, self.source)))
        return at_tokens(rollout, self._discounted(token_values(rollout, self.source)))

    def _discounted(self, rewards: Wide) -> Wide:
        return cleared(suffix_sums(rewards, self.gamma), rewards)
