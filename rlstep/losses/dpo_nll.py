"""DPO with a likelihood term on the chosen side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlstep.checks import at_least
from rlstep.interfaces import LossOutput, PairBatch
from rlstep.losses.dpo import Dpo
from rlstep.losses.preference import pair_mean, sequence_means
from rlstep.types import Counts


@dataclass(frozen=True, kw_only=True)
class DpoNll(Dpo):
    """-log pi(chosen) / |chosen| + alpha DPO: the loss of Iterative RPO (2404.19733, eq. 1).

    |chosen| is the number of trained tokens, so no prompt token is in the likelihood; both terms
    are means over pairs. The likelihood keeps DPO from widening its margin by making both sides
    rarer. Pang et al. 2024, arXiv:2404.19733: fresh pairs every iteration, and the policy that
    sampled them as the reference.
    """

    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values"})

    alpha: float = 1.0
    """Weight of one of the two terms."""
    alpha_weighs: Literal["dpo", "nll"] = "dpo"
    """Which term alpha multiplies: DPO's (the paper's first version) or the likelihood (its third
    and trl's `rpo_alpha` since). They agree at 1, the paper's value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("loss.alpha", self.alpha, 0.0)

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        dpo = super().__call__(predictions, batch, counts)
        nll = pair_mean(-sequence_means(predictions, batch)[batch.chosen], counts)
        if self.alpha_weighs == "dpo":
            loss = nll + self.alpha * dpo.loss
        else:
            loss = dpo.loss + self.alpha * nll
        return LossOutput(loss, {**dpo.metrics, "chosen_nll": nll.detach()})
