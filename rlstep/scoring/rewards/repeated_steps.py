"""A penalty for steps that a completion has taken before."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.checks import named
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.types import Rollout, RolloutScore


@dataclass(frozen=True, kw_only=True)
class RepeatedSteps(EachRollout):
    """Minus the share of a completion's steps that say what an earlier step of it said.

    Steps are compared as text, white space aside; those of white space alone are not counted. In
    [-1, 0], and 0 where there is no step. To repeat a step that scores well is the known way to be
    paid twice by a step scorer (arXiv:2410.15115, and arXiv:2504.15275).
    """

    source: str = "repeated_steps"
    """The name that its scores have."""

    def __post_init__(self) -> None:
        named("repeated_steps.source", self.source)

    def score(self, rollout: Rollout) -> RolloutScore:
        texts = (" ".join(rollout.step_text(i).split()) for i in range(len(rollout.steps)))
        said = [text for text in texts if text]
        repeated = len(said) - len(set(said))
        value = -repeated / len(said) if said else 0.0
        return RolloutScore(value=value, detail=f"{repeated} of {len(said)} steps")
