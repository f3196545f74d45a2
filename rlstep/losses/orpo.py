"""Odds ratio preference optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlstep.checks import at_least
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import pair_mean, pair_metrics, sequence_means
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class Orpo(Loss):
    """-m(chosen) - lambda log sigmoid(log odds(chosen) - log odds(rejected)), without a reference.

    m(y) is the mean logprob of y's trained tokens, p = exp(m) and odds = p / (1 - p); both terms
    are means over pairs. Hong et al. 2024, arXiv:2403.07691, eqs. 6 and 7. The paper writes p for
    the sequence; its code takes exp of the mean, as here.
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values", "length_cancels"})

    odds_weight: float = 0.1
    """lambda: 0.1 for Mistral, 0.2 to 0.25 for the paper's other models."""

    def __post_init__(self) -> None:
        at_least("loss.odds_weight", self.odds_weight, 0.0)

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        means = sequence_means(predictions, batch)  # [N]
        odds = log_odds(means)
        h = odds[batch.chosen] - odds[batch.rejected]  # [P]
        nll = pair_mean(-means[batch.chosen], counts)
        loss = nll + self.odds_weight * pair_mean(-logsigmoid(h), counts)
        metrics = pair_metrics(means, 1.0, batch, counts, each="mean_logprob")
        metrics |= {"chosen_nll": nll.detach(), "log_odds_ratio": pair_mean(h.detach(), counts)}
        return LossOutput(loss, metrics)


def log_odds(logprobs: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(logprobs), without the cancellation in 1 - p.

    A certain sequence (p = 1 in this precision) has the odds of the next smaller p, and the
    gradient of log p alone: finite, and not 0.
    """
    below_one = logprobs.clamp(max=-torch.finfo(logprobs.dtype).eps)
    return logprobs - torch.log(-torch.expm1(below_one))
