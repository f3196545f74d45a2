"""Several scorers as one, and their disagreement."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from rlstep.advantages.process import ProcessAdvantages
from rlstep.checks import named
from rlstep.interfaces import SampleBuilder
from rlstep.measuring.ties import cleared
from rlstep.tensors.sequences import labelled_scores
from rlstep.types import Failure, Group, Rollout, Samples, Score, StepScores
from rlstep.uncertainty.sigma import log_of

Disagreement: TypeAlias = Literal["gap", "std"]
"""The largest member's score less the smallest one's, or the members' population std."""


def combined(members: Seq[StepScores], disagreement: Disagreement) -> StepScores:
    """The members' mean for every step, and as log_sigma the log of their disagreement.

    Args:
        members: at least two, each with a value for every one of the K steps. Members' own
            log_sigma, the noise of labels, is no part of it. The version is the oldest.

    Returns:
        Where all agree (but for rounding) log_sigma is -inf: a standard deviation of 0.
    """
    values = np.stack([member.values.astype(np.float64) for member in members])
    spread = np.ptp(values, axis=0) if disagreement == "gap" else values.std(axis=0)
    return StepScores(
        values=values.mean(axis=0).astype(np.float32),
        version=min(member.version for member in members),
        log_sigma=log_of(cleared(spread, values)),
    )


@dataclass(frozen=True, kw_only=True)
class Ensemble(SampleBuilder):
    """Hands a builder the mean of several scorers as one source, with how far they disagree.

    URME (Lou et al. 2024, arXiv:2410.00847): where models of one task disagree they have not learnt
    it. Disagreement is a lower bound: members that share their start, their data and their order
    agree on what none of them knows (see `BaggedPrm`). A member that failed, or left out a step,
    fails the rollout's ensemble.
    """

    of: SampleBuilder = ProcessAdvantages(source="ensemble")
    """Reads the source made here: an estimator, or `Penalised`, `Dropped` ... around one."""
    members: tuple[str, ...] = ("prm", "monte_carlo")
    """Whose step scores, of one meaning and unit."""
    source: str = "ensemble"
    """The name under which the mean stands."""
    disagreement: Disagreement = "gap"
    """The largest member's score less the smallest one's, or the members' standard deviation."""

    def __post_init__(self) -> None:
        named("samples.source", self.source)
        if len(set(self.members)) < 2 or len(set(self.members)) < len(self.members):
            raise ValueError(
                f"samples.members is {self.members}; name at least 2 sources, each once, such as"
                " ('prm_a', 'prm_b')"
            )
        if self.source in self.members or self.source not in self.of.sources:
            raise ValueError(
                f"samples.source is {self.source!r}; it must be no member, and"
                f" {type(self.of).__name__} inside reads {sorted(self.of.sources)}"
            )

    @property
    def makes(self) -> type:
        return self.of.makes

    @property
    def sources(self) -> frozenset[str]:
        return self.of.sources - {self.source} | frozenset(self.members)

    @property
    def laws(self) -> frozenset[str]:
        return self.of.laws & {"score_shift_changes_nothing"}

    def samples(self, groups: Seq[Group]) -> Samples:
        return self.of.samples(
            [replace(g, rollouts=tuple(map(self._with_ensemble, g.rollouts))) for g in groups]
        )

    def _with_ensemble(self, rollout: Rollout) -> Rollout:
        return rollout.with_scores(**{self.source: self._score(rollout)})

    def _score(self, rollout: Rollout) -> Score:
        missing = [name for name in self.members if labelled_scores(rollout, name) is None]
        if missing:
            return Failure(reason="ensemble_member", detail=", ".join(missing))
        scores = (rollout.step_scores(name) for name in self.members)
        return combined([score for score in scores if score is not None], self.disagreement)
