"""DPO that asks for a wider margin where the scores are further apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlstep.checks import at_least
from rlstep.interfaces import PairBatch
from rlstep.losses.dpo import Dpo


@dataclass(frozen=True, kw_only=True)
class ScoreOffsetDpo(Dpo):
    """-log sigmoid(h - scale (chosen_score - rejected_score)), h as in DPO (arXiv:2504.18397).

    The scores are those that ordered the pair. Zhao et al. 2025 (UV-CoT) pass them through a
    function of their own, here the factor `scale`; the trainer they released leaves the offset out,
    which is `scale` 0, plain DPO.
    """

    laws: ClassVar[frozenset[str]] = frozenset({"common_shift_cancels", "gradient_is_the_values"})

    scale: float = 1.0
    """Nats of beta-weighted margin for one unit of score."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("loss.scale", self.scale, 0.0)

    def margins(self, ratios: Tensor, batch: PairBatch) -> Tensor:
        offsets = self.scale * (batch.chosen_score - batch.rejected_score)
        return super().margins(ratios, batch) - offsets
