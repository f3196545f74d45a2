"""Pairs of judgments: one that came to the right verdict, one that did not."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from rlstep.checks import at_least
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.assemble import Candidate, Side, assemble, distinct, in_order, spread
from rlstep.tensors.sequences import sequence
from rlstep.types import Group, OutcomeScore, PairSamples, Rollout, Verdict

_GRADES = {Verdict.CORRECT: 1.0, Verdict.WRONG: 0.0, Verdict.UNPARSABLE: -1.0}


@dataclass(frozen=True, kw_only=True)
class JudgmentPairs(SampleBuilder):
    """Self-made contrastive judgments, to train a judge by preferences.

    Con-J (Ye et al. 2024, arXiv:2410.03742). The prompt asks which of two answers is better, and
    that is known; its rollouts are judgments. Of each prompt: right verdicts against wrong ones,
    right ones against judgments without a readable verdict, and, where the rollouts carry 'hint'
    scores, a judgment hinted at the right verdict against one hinted at the wrong one. A hinted
    judgment that came to another verdict than its hint stands in no pair.

    Scores are 1 for a right verdict, 0 for a wrong one and -1 for none.
    """

    makes: ClassVar[type] = PairSamples

    contrasts: int = 3
    """Most pairs of a right and a wrong verdict, per prompt."""
    unparsable: int = 1
    """Most pairs with a judgment without a verdict, per prompt."""
    hints: int = 1
    """Most pairs of hinted judgments, per prompt; 0 needs no rollouts with hints."""

    def __post_init__(self) -> None:
        for name in ("contrasts", "unparsable", "hints"):
            at_least(f"pairs.{name}", getattr(self, name), 0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset({"outcome", "hint"} if self.hints else {"outcome"})

    def samples(self, groups: Seq[Group]) -> PairSamples:
        return assemble([self._candidates(group) for group in groups], "judgment")

    def _candidates(self, group: Group) -> list[Candidate]:
        rollouts = in_order(group)
        plain = _sides(r for r in rollouts if "hint" not in r.scores)
        hinted = _sides(r for r in rollouts if self.hints and _follows_its_hint(r))
        return [
            *_pairs(plain, 0.0, self.contrasts),
            *_pairs(plain, -1.0, self.unparsable),
            *_pairs(hinted, 0.0, self.hints),
        ]


def _sides(rollouts: Iterable[Rollout]) -> list[Side]:
    return distinct(
        Side(sequence=sequence(rollout), score=_GRADES[rollout.outcome.verdict])
        for rollout in rollouts
        if rollout.outcome is not None
    )


def _follows_its_hint(rollout: Rollout) -> bool:
    hint = rollout.scores.get("hint")
    verdict = rollout.outcome.verdict if rollout.outcome is not None else None
    return isinstance(hint, OutcomeScore) and hint.verdict is verdict


def _pairs(sides: Seq[Side], rejected: float, most: int) -> list[Candidate]:
    """At most `most` pairs of a right verdict with a judgment of that score."""
    chosen = [side for side in sides if side.score == 1.0]
    found = [
        Candidate(
            chosen=good.sequence, rejected=bad.sequence, chosen_score=1.0, rejected_score=rejected
        )
        for good, bad in product(chosen, [side for side in sides if side.score == rejected])
    ]
    return spread(found, most) if most else []
