"""The loss of an outcome reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from rlstep.checks import at_least
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import pair_mean, pair_metrics
from rlstep.tensors.logprobs import masked
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class BradleyTerry(Loss):
    """-log sigmoid(r_c - r_r - m) + c (r_c + r_r)^2, the mean over pairs.

    r is the output of a scalar head at a side's last trained token. Ouyang et al. 2022,
    arXiv:2203.02155, eq. 1 (there the mean over prompts of the mean over a prompt's pairs). The
    margin m is a factor times the difference of the pair's scores (Llama 2, arXiv:2307.09288,
    eq. 2); c holds the rewards near 0, which preferences leave free (arXiv:2312.09244).
    """

    takes: ClassVar[type] = PairSamples
    of_head: ClassVar[bool] = True
    laws: ClassVar[frozenset[str]] = frozenset(
        {"gradient_is_the_values", "only_the_last_token_counts", "zero_logits_give_ln2"}
    )

    margin: float = 0.0
    """m for one unit of difference between the chosen and the rejected side's score."""
    centering: float = 0.0
    """c, what the square of a pair's summed rewards is multiplied by; the paper's is 0.01."""

    def __post_init__(self) -> None:
        at_least("loss.margin", self.margin, 0.0)
        at_least("loss.centering", self.centering, 0.0)

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        rewards = last_trained(predictions, batch.loss_mask)  # [N]
        chosen, rejected = rewards[batch.chosen], rewards[batch.rejected]
        margins = self.margin * (batch.chosen_score - batch.rejected_score)
        losses = -logsigmoid(chosen - rejected - margins)
        losses = losses + self.centering * (chosen + rejected).square()
        metrics = pair_metrics(rewards, 1.0, batch, counts, each="reward")
        return LossOutput(pair_mean(losses, counts), metrics)


def last_trained(values: Tensor, mask: Tensor) -> Tensor:
    """[N, L] -> [N]: the value at each sequence's last trained token, 0 where it has none."""
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
    return masked(values, last).sum(1)
