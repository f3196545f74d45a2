"""Simple preference optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from rlstep.checks import at_least
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import pair_mean, pair_metrics, sequence_means
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class Simpo(Loss):
    """-log sigmoid(beta (m(chosen) - m(rejected)) - gamma), m the mean logprob of a sequence.

    Needs no reference. The mean over trained tokens makes the margin what generation maximises and
    takes the reward for length away; gamma is the margin asked for. Meng et al. 2024,
    arXiv:2405.14734, eq. 6; the defaults are the paper's for Llama-3-8B base (beta is best between
    2 and 2.5, gamma between 0.3 and 1.6). Its code gives gamma as a share of beta.
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset({"gradient_is_the_values", "length_cancels"})

    beta: float = 2.0
    """What the difference of mean logprobs is multiplied by."""
    gamma: float = 1.0
    """The margin that is asked for, after that multiplication."""

    def __post_init__(self) -> None:
        at_least("loss.beta", self.beta, 0.0)
        at_least("loss.gamma", self.gamma, 0.0)

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        means = sequence_means(predictions, batch)  # [N]
        h = self.beta * (means[batch.chosen] - means[batch.rejected]) - self.gamma  # [P]
        metrics = pair_metrics(means, self.beta, batch, counts, each="mean_logprob")
        return LossOutput(pair_mean(-logsigmoid(h), counts), metrics)
