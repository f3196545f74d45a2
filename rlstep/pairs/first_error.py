"""Pairs of single steps: the first wrong step of a rollout against a rectified one."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlstep.checks import at_least, named
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.aggregate import first_below
from rlstep.pairs.assemble import Candidate, assemble, in_order
from rlstep.tensors.sequences import is_correct, sequence
from rlstep.types import Group, PairSamples, Rollout, StepScores


def first_error(scores: StepScores, threshold: float) -> int | None:
    """Index of the first step that scores under the threshold (strictly), None if none does.

    A step without a label (n = 0) is taken as right: binary search labels only around the error.
    """
    labelled = True if scores.n is None else scores.n > 0
    return first_below(np.where(labelled, scores.values, np.inf), threshold)


@dataclass(frozen=True, kw_only=True)
class FirstErrorPairs(SampleBuilder):
    """(right steps so far + the wrong step) against (the same + a rectified step).

    Step-DPO (Lai et al. 2024, arXiv:2406.18629), online. A rollout with a wrong outcome is cut
    after its first error; its rectifications are the branches of the same group that inherited
    exactly the steps before that error and reached a correct outcome. Only the one step is in the
    loss mask, and no end-of-sequence token is appended: a step is not the end. A rectification is
    left out if its step reads like the rejected one or like that of an earlier rectification, or
    if the source scores it under the threshold too (a right answer from a wrong step).
    """

    makes: ClassVar[type] = PairSamples

    source: str = "prm"
    """Whose step scores find the error."""
    threshold: float = 0.5
    """A step under it is wrong; the rectification strategy must use the same one."""
    max_pairs: int = 0
    """Per prompt; 0 keeps all."""

    def __post_init__(self) -> None:
        at_least("pairs.max_pairs", self.max_pairs, 0)
        named("pairs.source", self.source)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", self.source})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        found = [
            [c for rollout in rollouts for c in self._candidates(rollout, rollouts)]
            for rollouts in map(in_order, groups)
        ]
        return assemble(found, "first_error", self.max_pairs)

    def _candidates(self, rollout: Rollout, rollouts: Seq[Rollout]) -> list[Candidate]:
        """One candidate for every distinct rectification of a wrong rollout."""
        scores = rollout.step_scores(self.source)
        if scores is None or rollout.outcome is None or is_correct(rollout):
            return []
        error = first_error(scores, self.threshold)
        if error is None:
            return []
        wrong = rollout.steps[error]
        rejected = sequence(rollout, start=wrong.start, end=wrong.end)
        seen = {rollout.step_text(error).strip()}
        found = []
        for branch in rollouts:
            if not self._rectifies(branch, rollout, error):
                continue
            text = branch.step_text(error).strip()
            if text not in seen:
                seen.add(text)
                step = branch.steps[error]
                chosen = sequence(branch, start=step.start, end=step.end)
                found.append(
                    Candidate(
                        chosen=chosen, rejected=rejected, chosen_score=1.0, rejected_score=0.0
                    )
                )
        return found

    def _rectifies(self, branch: Rollout, rollout: Rollout, error: int) -> bool:
        """Whether the branch replaces just the wrong step, ends correct and is not scored wrong."""
        start = rollout.steps[error].start
        if (branch.parent, branch.inherited) != (rollout.rollout_id, start):
            return False
        if error >= len(branch.steps) or branch.steps[error].start != start:
            return False  # the branch is cut otherwise, so there is no single step to compare
        scores = branch.step_scores(self.source)
        scored_wrong = scores is not None and first_error(scores, self.threshold) == error
        return is_correct(branch) and not scored_wrong
