"""Another estimator's advantages, normalised over the batch."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rlstep.advantages.assemble import AdvantageBuilder, Credit, whiten
from rlstep.advantages.gae import Gae
from rlstep.types import Group


@dataclass(frozen=True, kw_only=True)
class Whitened(AdvantageBuilder):
    """Another estimator's advantages, less their mean and divided by their std over the batch.

    What PPO (arXiv:1707.06347), VinePPO (arXiv:2410.01679), PRIME (arXiv:2502.01456) and PURE
    (arXiv:2504.15275) do in their released code, though not in their formulas. Mean and population
    std are over the trained tokens of the groups with signal; the other groups stay at 0, and are
    not trained.
    """

    of: AdvantageBuilder = Gae()
    """Whose advantages."""

    @property
    def sources(self) -> frozenset[str]:
        return self.of.sources

    @property
    def laws(self) -> frozenset[str]:
        return self.of.laws & {"score_shift_changes_nothing"}

    def advantages(self, groups: Seq[Group]) -> list[Credit]:
        return whiten(self.of.advantages(groups))
