"""Full-Step-DPO: every step of both sides is trained, weighted by its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlstep.checks import at_least
from rlstep.interfaces import Loss, LossOutput, PairBatch
from rlstep.losses.preference import log_ratios, pair_mean, pair_metrics, prompt_mean
from rlstep.tensors.logprobs import masked, per_token, step_sums
from rlstep.types import Counts, PairSamples


@dataclass(frozen=True, kw_only=True)
class FullStepDpo(Loss):
    """DPO with step weights: good steps of the chosen and bad steps of the rejected side get more.

    With step scores r, alpha_chosen = softmax_k(gamma r_k), alpha_rejected = softmax_k(-gamma r_k),
    constants without gradient, and R(y) = beta Delta(y) over all trained tokens, a pair's loss is

        'gradient':  -c g (sum_k alpha_chosen_k log pi(s_k) - sum_k alpha_rejected_k log pi(s_k)),
                     g = sigmoid(R(rejected) - R(chosen)), also without gradient
        'margin':    -log sigmoid(beta (sum_k alpha_chosen_k Delta_k
                                        - sum_k alpha_rejected_k Delta_k))

    and the loss is their mean (see `mean_over`). Xu et al. 2025, arXiv:2502.14356: 'gradient' is
    the form whose gradient the paper states and its authors' code computes; the value of that
    surrogate means nothing, so look at the margin and the accuracy. 'margin' puts the weights
    inside the sigmoid. The two are not equivalent.

    The authors' code also multiplies every token's alpha by a brake, without gradient:
    sigmoid(-token_rate Delta_t) on the chosen side and sigmoid(token_rate Delta_t) on the rejected
    one, Delta_t being the token's log policy/reference. A token that has already moved the wanted
    way is pushed less. The paper's gradient has no such factor; its rate in the code is 1.
    """

    takes: ClassVar[type] = PairSamples
    laws: ClassVar[frozenset[str]] = frozenset(
        {
            "gradient_by_hand",
            "score_shift_changes_nothing",
            "equal_scores_give_dpo",
            "single_step_gives_dpo",
            "single_token_steps_give_the_token_form",
        }
    )

    beta: float = 0.05
    """How strongly the policy is held to the reference, as in DPO."""
    gamma: float = 0.5
    """Sharpness of the step weights. It acts on the scores' range: 0.5 on [0, 1] gives at most a
    ratio of 1.65 between two steps."""
    form: Literal["gradient", "margin"] = "gradient"
    """Which of the two losses above."""
    scale_by_beta: bool = True
    """c in the gradient form: beta (the paper) or 1 (its authors' code)."""
    softmax_over: Literal["step", "token"] = "step"
    """'token' (the authors' code) gives a step a total weight that grows with its length."""
    normalise: Literal["sum1", "mean1"] = "sum1"
    """Weights of a sequence sum to 1, or average 1; only 'mean1' has DPO as its gamma = 0 limit."""

    mean_over: Literal["pair", "prompt"] = "pair"
    """'pair': every pair of the mini-batch weighs the same, so a prompt with 16 pairs 16 times what
    one with a single pair does. 'prompt' (the authors' code, whose batches are a prompt each): the
    mean over a prompt's pairs first, then over the prompts that have some."""
    token_rate: float = 0.0
    """Steepness of the brake in the gradient form. 0 leaves it out: a factor of 1, not the 1/2 of a
    sigmoid at 0, with which every small rate begins."""

    def __post_init__(self) -> None:
        at_least("loss.beta", self.beta, 0.0)
        at_least("loss.gamma", self.gamma, 0.0)
        at_least("loss.token_rate", self.token_rate, 0.0)
        if self.token_rate and self.form != "gradient":
            raise ValueError(
                f"loss.token_rate is {self.token_rate}, but loss.form is {self.form!r}; the brake"
                " belongs to the gradient form, elsewhere the only valid value is 0"
            )

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"})

    def __call__(self, predictions: Tensor, batch: PairBatch, counts: Counts) -> LossOutput:
        ratios = log_ratios(predictions, batch)  # [N, L]
        sums = ratios.sum(1)
        up, down = self.token_weights(batch, self.gamma), self.token_weights(batch, -self.gamma)
        if self.form == "margin":
            good, bad = (up * ratios).sum(1), (down * ratios).sum(1)
            losses = -logsigmoid(self.beta * (good[batch.chosen] - bad[batch.rejected]))
        else:
            logprobs = masked(predictions, batch.loss_mask)
            eased, held = self._brakes(ratios.detach())
            good, bad = (eased * up * logprobs).sum(1), (held * down * logprobs).sum(1)
            fixed = sums.detach()
            g = torch.sigmoid(self.beta * (fixed[batch.rejected] - fixed[batch.chosen]))  # [P]
            c = self.beta if self.scale_by_beta else 1.0
            losses = -c * g * (good[batch.chosen] - bad[batch.rejected])
        metrics = pair_metrics(sums, self.beta, batch, counts)
        metrics["step_weight_log_ratio"] = self._log_ratio(batch, counts)
        by_prompt = self.mean_over == "prompt"
        mean = prompt_mean(losses, batch, counts) if by_prompt else pair_mean(losses, counts)
        return LossOutput(mean, metrics)

    def token_weights(self, batch: PairBatch, gamma: float) -> Tensor:
        """Every trained token's weight alpha, [N, L]; 0 where the mask is False.

        Only steps with a trained token take part. That a step takes part is read from the mask: a
        score of exactly 0 is a score like any other.
        """
        if self.softmax_over == "token":
            scores = per_token(batch.step_scores, batch.step_index, batch.loss_mask)
            return self._alpha(gamma * scores, batch.loss_mask)
        ones = torch.ones_like(batch.ref_logprobs)
        steps = batch.step_scores.shape[1]
        trained = step_sums(ones, batch.step_index, batch.loss_mask, steps) > 0
        alpha = self._alpha(gamma * batch.step_scores, trained)
        return per_token(alpha, batch.step_index, batch.loss_mask)

    def _brakes(self, ratios: Tensor) -> tuple[Tensor, Tensor]:
        """Every token's factor on a chosen and on a rejected side, [N, L] each."""
        if self.token_rate == 0.0:
            return torch.ones_like(ratios), torch.ones_like(ratios)
        return torch.sigmoid(-self.token_rate * ratios), torch.sigmoid(self.token_rate * ratios)

    def _alpha(self, logits: Tensor, present: Tensor) -> Tensor:
        """Normalised weights of the `present` entries of every row, 0 elsewhere."""
        alpha = masked(logits.masked_fill(~present, -torch.inf).softmax(-1), present)
        return alpha * present.sum(1, keepdim=True) if self.normalise == "mean1" else alpha

    def _log_ratio(self, batch: PairBatch, counts: Counts) -> Tensor:
        """Mean over sequences of log(largest / smallest step weight), in nats: 0 is plain DPO."""
        scores = per_token(batch.step_scores, batch.step_index, batch.loss_mask)
        high = torch.where(batch.loss_mask, scores, -torch.inf).amax(1)
        low = torch.where(batch.loss_mask, scores, torch.inf).amin(1)
        spans = masked(high - low, batch.loss_mask.any(1))
        return self.gamma * spans.sum() / max(counts.sequences, 1)
