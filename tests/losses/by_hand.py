"""Gradients derived by hand, for losses whose value is not what their gradient belongs to.

Every function takes the loss, predictions [N, L], the batch and the counts, and gives d loss /
d predictions. They are written with plain numbers and loops, apart from the losses' own code, and
serve the law `gradient_by_hand` in tests/test_laws.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlstep.interfaces import Loss, PairBatch
from rlstep.losses.bnf import Bnf
from rlstep.losses.cispo import Cispo, ClippedWeight
from rlstep.losses.elbo_bgpo import ElboBgpo
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.gspo import Gspo
from rlstep.losses.kto import Kto
from rlstep.losses.policy_gradient import Clip
from rlstep.losses.reinforce import Reinforce
from rlstep.types import Counts


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


class Numbers:
    """A pair batch as lists."""

    def __init__(self, predictions: Tensor, batch: PairBatch) -> None:
        self.logprobs = predictions.tolist()
        self.ref = batch.ref_logprobs.tolist()
        self.scores = batch.step_scores.tolist()
        self.steps = batch.step_index.tolist()
        self.trained = [
            [t for t, kept in enumerate(row) if kept] for row in batch.loss_mask.tolist()
        ]
        self.pairs = list(zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True))
        self.prompts = batch.prompt.tolist()
        self.gradient = [[0.0] * len(row) for row in self.logprobs]

    def ratio(self, n: int, t: int) -> float:
        return self.logprobs[n][t] - self.ref[n][t]

    def ratios(self, n: int) -> float:
        return sum(self.ratio(n, t) for t in self.trained[n])


def full_step_dpo(loss: FullStepDpo, numbers: Numbers, counts: Counts) -> None:
    """Gradient form: -c g alpha brake a chosen token; margin form: -beta sigmoid(-h) alpha."""

    def alpha(n: int, sign: float) -> dict[int, float]:
        steps = [numbers.steps[n][t] for t in numbers.trained[n]]
        units = steps if loss.softmax_over == "token" else sorted(set(steps))
        raw = {k: math.exp(sign * loss.gamma * numbers.scores[n][k]) for k in units}
        scale = len(units) if loss.normalise == "mean1" else 1.0
        total = sum(raw[k] for k in units)
        return {t: scale * raw[k] / total for t, k in zip(numbers.trained[n], steps, strict=True)}

    def brake(n: int, t: int, sign: float) -> float:
        return sigmoid(-sign * loss.token_rate * numbers.ratio(n, t)) if loss.token_rate else 1.0

    for (chosen, rejected), prompt in zip(numbers.pairs, numbers.prompts, strict=True):
        among = counts.pairs
        if loss.mean_over == "prompt":
            among = len(set(numbers.prompts)) * numbers.prompts.count(prompt)
        sides = [(chosen, 1.0, alpha(chosen, 1.0)), (rejected, -1.0, alpha(rejected, -1.0))]
        if loss.form == "margin":
            h = sum(
                sign * weight * numbers.ratio(n, t)
                for n, sign, weights in sides
                for t, weight in weights.items()
            )
            strength = loss.beta * sigmoid(-loss.beta * h)
        else:
            strength = sigmoid(loss.beta * (numbers.ratios(rejected) - numbers.ratios(chosen)))
            strength *= loss.beta if loss.scale_by_beta else 1.0
        for n, sign, weights in sides:
            for t, weight in weights.items():
                numbers.gradient[n][t] -= sign * strength * weight * brake(n, t, sign) / among


def kto(loss: Kto, numbers: Numbers, counts: Counts) -> None:
    """With z0 a constant: -+ weight beta sigmoid'(beta (Delta - z0)) / N, the same at every token.

    What is desirable by the share a has a of the one and 1 - a of the other.
    """
    wins = [chosen for chosen, _ in numbers.pairs]
    losses = [rejected for _, rejected in numbers.pairs]
    paired = sorted(set(wins) | set(losses))
    z0 = max(0.0, sum(numbers.ratios(n) for n in paired) / len(paired))
    for n in paired:
        share = wins.count(n) / (wins.count(n) + losses.count(n))
        s = sigmoid(loss.beta * (numbers.ratios(n) - z0))
        sides = loss.desirable_weight * share - loss.undesirable_weight * (1.0 - share)
        for t in numbers.trained[n]:
            numbers.gradient[n][t] = -sides * loss.beta * s * (1.0 - s) / counts.sequences


def bnf(loss: Bnf, numbers: Numbers, counts: Counts) -> None:
    """-+ (f - p) / (1 - p) / |y| with f = min(1, p / q), as the docstring derives from the logits.

    tests/losses/test_bnf.py holds the derivation against autograd over a vocabulary.
    """
    for pair in numbers.pairs:
        for n, sign in zip(pair, (1.0, -1.0), strict=True):
            for t in numbers.trained[n]:
                p, q = math.exp(numbers.logprobs[n][t]), math.exp(numbers.ref[n][t])
                push = (min(1.0, p / q) - p) / (1.0 - p)
                numbers.gradient[n][t] -= sign * push / len(numbers.trained[n]) / counts.pairs


def _policy_gradient(
    weight: Callable[[Any, float, float], float], *, by_sequence: bool = False
) -> Callable[[Any, Tensor, Any, Counts], Tensor]:
    """-weight(loss, rho, A) divided as the mean does: `weight` is d gain / d logprob."""

    def gradient(loss: Any, predictions: Tensor, batch: Any, counts: Counts) -> Tensor:
        old, advantages = batch.old_logprobs.tolist(), batch.advantages.tolist()
        out = [[0.0] * len(row) for row in predictions.tolist()]
        for n, (row, mask) in enumerate(
            zip(predictions.tolist(), batch.loss_mask.tolist(), strict=True)
        ):
            trained = [t for t, kept in enumerate(mask) if kept]
            ratios = [row[t] - old[n][t] for t in trained]
            if by_sequence:
                ratios = [sum(ratios) / len(ratios)] * len(ratios)
            parts = len(trained) * counts.sequences if by_sequence else counts.tokens
            for t, ratio in zip(trained, ratios, strict=True):
                out[n][t] = -weight(loss, math.exp(ratio), advantages[n][t]) / parts
        return torch.tensor(out, dtype=predictions.dtype)

    return gradient


def _cispo(loss: Cispo, rho: float, advantage: float) -> float:
    assert isinstance(loss.surrogate, ClippedWeight)
    return advantage * min(max(rho, 1.0 - loss.surrogate.low), 1.0 + loss.surrogate.high)


def _gspo(loss: Gspo, rho: float, advantage: float) -> float:
    assert isinstance(loss.surrogate, Clip)
    beyond = rho > 1.0 + loss.surrogate.high if advantage > 0 else rho < 1.0 - loss.surrogate.low
    return 0.0 if beyond else rho * advantage


def _over_pairs(
    derive: Callable[[Any, Numbers, Counts], None],
) -> Callable[[Any, Tensor, Any, Counts], Tensor]:
    def gradient(loss: Any, predictions: Tensor, batch: Any, counts: Counts) -> Tensor:
        numbers = Numbers(predictions, batch)
        derive(loss, numbers, counts)
        return torch.tensor(numbers.gradient, dtype=predictions.dtype)

    return gradient


BY_HAND: dict[type[Loss], Callable[[Any, Tensor, Any, Counts], Tensor]] = {
    FullStepDpo: _over_pairs(full_step_dpo),
    Kto: _over_pairs(kto),
    Bnf: _over_pairs(bnf),
    Cispo: _policy_gradient(_cispo),
    Reinforce: _policy_gradient(lambda loss, rho, advantage: advantage),
    Gspo: _policy_gradient(_gspo, by_sequence=True),
    ElboBgpo: _policy_gradient(
        lambda loss, rho, advantage: advantage * (1.0 if advantage >= 0.0 else rho),
        by_sequence=True,
    ),
}
