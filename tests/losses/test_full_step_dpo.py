from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlstep.interfaces import LossOutput, PairBatch
from rlstep.losses.dpo import Dpo
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.tensors.batching import count
from rlstep.types import PairSamples
from tests.builders import make_batch, make_sequence, pad_rows
from tests.losses.pairwise import close, pairs, run

LN3 = math.log(3.0)


def two_steps(chosen=(1.0, 0.0), rejected=(1.0, 0.0)) -> PairSamples:
    """One pair of two steps of one token each."""
    return pairs(
        make_sequence("c", [1, 1], scores=chosen), make_sequence("r", [1, 1], scores=rejected)
    )


def weights(loss: FullStepDpo, samples: PairSamples, sign: float = 1.0) -> Tensor:
    batch = make_batch(samples)
    assert isinstance(batch, PairBatch)
    return loss.token_weights(batch, sign * loss.gamma)


def test_step_weights_worked_by_hand():
    # r = (1, 0), gamma = ln 3: chosen (3, 1) / 4, rejected (1/3, 1) / (4/3) = (1, 3) / 4.
    loss = FullStepDpo(gamma=LN3)
    close(weights(loss, two_steps()), [[0, 0.75, 0.25]] * 2, 1e-12)
    close(weights(loss, two_steps(), -1.0), [[0, 0.25, 0.75]] * 2, 1e-12)


def test_weights_of_ragged_masked_chains():
    # Row 0: steps of 2, 1 and 1 tokens with r = (1, 0, 5); step 2 is masked, so it takes no part
    # and (3, 1) / 4 is left, for every token of its step. Row 1: one step of 1 token, weight 1.
    samples = pairs(
        make_sequence("c", [2, 1, 1], scores=[1, 0, 5], masked_steps=[2]),
        make_sequence("r", [1], scores=[0.3]),
    )
    by_step = [[0, 0.75, 0.75, 0.25, 0], [0, 1, 0, 0, 0]]
    close(weights(FullStepDpo(gamma=LN3), samples), by_step, 1e-12)
    # mean1 multiplies by the number of trained steps: 2 and 1.
    by_mean = [[0, 1.5, 1.5, 0.5, 0], [0, 1, 0, 0, 0]]
    close(weights(FullStepDpo(gamma=LN3, normalise="mean1"), samples), by_mean, 1e-12)
    # Over tokens: (3, 3, 1) / 7, so the longer step gets 6/7 in all; mean1 multiplies by 3 tokens.
    by_token = [[0, 3 / 7, 3 / 7, 1 / 7, 0], [0, 1, 0, 0, 0]]
    close(weights(FullStepDpo(gamma=LN3, softmax_over="token"), samples), by_token, 1e-12)
    by_both = FullStepDpo(gamma=LN3, softmax_over="token", normalise="mean1")
    close(weights(by_both, samples), [[0, 9 / 7, 9 / 7, 3 / 7, 0], [0, 1, 0, 0, 0]], 1e-12)


def test_margin_form_worked_by_hand():
    # Delta_k (1, 0) and (-1, 0): 0.5 (0.75 * 1 - 0.25 * -1) = 0.5; -ln sigmoid(0.5) = 0.474077.
    loss = FullStepDpo(beta=0.5, gamma=LN3, form="margin")
    out, gradient = run(loss, two_steps(), [[0, 1, 0], [0, -1, 0]])
    assert out.loss.item() == pytest.approx(0.474077, abs=1e-6)
    # -beta sigmoid(-0.5) alpha = -0.5 * 0.377541 * (0.75, 0.25), rejected + (0.25, 0.75).
    close(gradient, [[0, -0.141578, -0.047193], [0, 0.047193, 0.141578]])


def test_gradient_form_worked_by_hand():
    # Delta 1 and -1, beta 0.5: g = sigmoid(-0.5 - 0.5) = 0.268941, c = beta = 0.5:
    # chosen -0.5 * 0.268941 * (0.75, 0.25) = (-0.100853, -0.033618), rejected + (0.25, 0.75).
    loss = FullStepDpo(beta=0.5, gamma=LN3)
    rows = [[0.0, 0.5, 0.5], [0.0, -0.5, -0.5]]
    out, gradient = run(loss, two_steps(), rows)
    close(gradient, [[0, -0.100853, -0.033618], [0, 0.033618, 0.100853]])
    # Value: -c g ((0.75 + 0.25) 0.5 - (0.25 + 0.75) (-0.5)) = -0.134471.
    assert out.loss.item() == pytest.approx(-0.134471, abs=1e-6)
    assert out.metrics["pair_accuracy"].item() == 1.0
    assert out.metrics["margin"].item() == pytest.approx(1.0)
    assert out.metrics["step_weight_log_ratio"].item() == pytest.approx(LN3)
    # c = 1 doubles every number.
    free = FullStepDpo(beta=0.5, gamma=LN3, scale_by_beta=False)
    torch.testing.assert_close(run(free, two_steps(), rows)[1], 2 * gradient)


def test_gradient_form_over_two_ragged_pairs():
    # Sequences: 0 has steps of 2 and 1 tokens, r = (1, 0); 1 has one step; 2 has r = (0, 1), its
    # first step masked. Pairs (0, 1) and (0, 2), beta 1, c 1, gamma ln 3, divided by 2 pairs.
    # Delta: s0 = 1, s1 = 1, s2 = -1: g01 = sigmoid(0) = 0.5, g02 = sigmoid(-2) = 0.119203.
    # s0: -(0.5 + 0.119203) / 2 = -0.309601 times (0.75, 0.75, 0.25); s1: 0.25; s2: 0.059601.
    samples = pairs(
        make_sequence("0", [2, 1], scores=[1, 0]),
        make_sequence("1", [1], scores=[0]),
        make_sequence("2", [1, 1], scores=[0, 1], masked_steps=[0]),
        places=((0, 1), (0, 2)),
    )
    loss = FullStepDpo(beta=1.0, gamma=LN3)
    _, gradient = run(loss, samples, [[0, 0.5, 0.25, 0.25], [0, 1], [0, 30, -1]])
    close(
        gradient,
        [[0, -0.232201, -0.232201, -0.077400], [0, 0.25, 0, 0], [0, 0, 0.059601, 0]],
    )


@pytest.mark.parametrize("form", ["gradient", "margin"])
def test_the_mean_over_prompts_worked_by_hand(form):
    # One-token sides at Delta 0, beta and c 1: a pair's push is 1/2 on each side in either form.
    # Prompt p has pairs (0, 1), (0, 2), (0, 3), prompt q the pair (4, 5). Over pairs: each 1/2 of
    # 1/4 = 0.125. Over prompts: a pair of p 1/2 of 1/2 of 1/3 = 1/12, that of q 1/2 of 1/2 = 1/4.
    samples = pairs(
        *(make_sequence(str(i), [1], scores=[1.0], prompt_id="p") for i in range(4)),
        *(make_sequence(str(i), [1], scores=[1.0], prompt_id="q") for i in (4, 5)),
        places=((0, 1), (4, 5), (0, 2), (0, 3)),
    )
    rows = [[0.0, 0.0]] * 6
    loss = FullStepDpo(beta=1.0, form=form)
    _, gradient = run(loss, samples, rows)
    close(gradient[:, 1:], [[-0.375], [0.125], [0.125], [0.125], [-0.125], [0.125]])
    _, gradient = run(replace(loss, mean_over="prompt"), samples, rows)
    close(gradient[:, 1:], [[-1 / 4], [1 / 12], [1 / 12], [1 / 12], [-1 / 4], [1 / 4]])


def test_the_mean_over_prompts_is_that_of_the_prompts_alone():
    # What the authors' code does: a batch of each prompt, and the mean of their gradients.
    def of(prompt: str, number: int) -> PairSamples:
        sides = [make_sequence(f"{prompt}{i}", [1], scores=[i], prompt_id=prompt) for i in range(3)]
        return pairs(*sides, places=[(0, 1), (0, 2), (1, 2)][:number])

    loss = FullStepDpo(beta=0.5, gamma=LN3, mean_over="prompt")
    rows = [[0.0, -0.3], [0.0, 0.2], [0.0, 0.7]]
    alone = [run(loss, of(prompt, n), rows) for prompt, n in (("p", 3), ("q", 1))]
    p, q = of("p", 3), of("q", 1)
    moved = tuple(
        replace(pair, chosen=3 + pair.chosen, rejected=3 + pair.rejected) for pair in q.pairs
    )
    both = replace(p, sequences=p.sequences + q.sequences, pairs=p.pairs + moved)
    out, gradient = run(loss, both, rows * 2)
    assert out.loss.item() == pytest.approx(sum(o.loss.item() for o, _ in alone) / 2)
    torch.testing.assert_close(gradient, torch.cat([g for _, g in alone]) / 2)


def test_the_forms_differ():
    rows = [[0, 1, 0], [0, -1, 0]]
    gradient = run(FullStepDpo(beta=0.5, gamma=LN3), two_steps(), rows)[1]
    margin = run(FullStepDpo(beta=0.5, gamma=LN3, form="margin"), two_steps(), rows)[1]
    assert not torch.allclose(gradient, margin, atol=1e-2)


def test_scores_do_not_change_the_pair_weight():
    # The sums of the gradients over a side are -c g and c g whatever the scores say.
    rows = [[0.0, 0.5, 0.5], [0.0, -0.5, -0.5]]
    one = run(FullStepDpo(beta=0.5, gamma=2.0), two_steps(), rows)[1]
    other = run(FullStepDpo(beta=0.5, gamma=2.0), two_steps((0.2, 0.9), (0.4, 0.1)), rows)[1]
    torch.testing.assert_close(one.sum(1), other.sum(1))
    assert not torch.allclose(one, other)


def test_sum_to_one_is_not_dpo_but_its_length_normalised_relative():
    # Equal scores: every step has 1/2 with sum1, so the gradient is half of DPO's.
    rows = [[0.0, 0.5, 0.5], [0.0, -0.5, -0.5]]
    samples = two_steps((1, 1), (0, 0))
    dpo = torch.autograd.grad(_dpo(samples, predictions := pad_rows(rows)).loss, predictions)[0]
    torch.testing.assert_close(run(FullStepDpo(beta=0.5), samples, rows)[1], dpo / 2)
    mean1 = FullStepDpo(beta=0.5, normalise="mean1")
    torch.testing.assert_close(run(mean1, samples, rows)[1], dpo)


def _dpo(samples: PairSamples, predictions: Tensor) -> LossOutput:
    return Dpo(beta=0.5)(predictions, make_batch(samples), count(samples))


def test_policy_equal_to_reference():
    # Margin form: -ln sigmoid(0) = ln 2. Gradient form: g = 1/2, and all logprobs here are 0.
    rows = [[0.0] * 3] * 2
    assert run(FullStepDpo(form="margin"), two_steps(), rows)[0].loss.item() == pytest.approx(
        math.log(2.0)
    )
    _, gradient = run(FullStepDpo(beta=0.5, gamma=LN3), two_steps(), rows)
    close(gradient.sum(1)[:, None], [[-0.25], [0.25]], 1e-12)


def test_a_score_of_exactly_zero_keeps_its_weight():
    # The worst step of the rejected side is the one with score 0: it gets the most weight.
    down = weights(FullStepDpo(gamma=LN3), two_steps(), -1.0)[1]
    assert down[2] == pytest.approx(0.75)


@pytest.mark.parametrize("form", ["gradient", "margin"])
def test_a_huge_gamma_does_not_overflow(form):
    out, gradient = run(
        FullStepDpo(gamma=1e4, form=form), two_steps(), [[0.0, 1.0, 1.0], [0.0, -1.0, 0.0]]
    )
    assert gradient.isfinite().all() and out.loss.isfinite()
    assert all(value.isfinite() for value in out.metrics.values())
    close(weights(FullStepDpo(gamma=1e4), two_steps()), [[0, 1, 0]] * 2)


def test_default_gamma_barely_tells_steps_apart():
    # exp(0.5) = 1.65 is the largest ratio for scores in [0, 1].
    out, _ = run(FullStepDpo(), two_steps(), [[0.0] * 3] * 2)
    assert out.metrics["step_weight_log_ratio"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("field", ["beta", "gamma", "token_rate"])
def test_bad_values_are_refused(field: str):
    with pytest.raises(ValueError, match=rf"loss\.{field} is -1.0; the smallest valid value is 0"):
        replace(FullStepDpo(), **{field: -1.0})


def test_the_brake_worked_by_hand():
    # gradient_form above (g = 0.268941, c = beta = 0.5) with Delta_t = 0.5 on the chosen and -0.5
    # on the rejected side, token_rate 2: chosen sigmoid(-2 * 0.5) = sigmoid(-1) = 0.268941,
    # rejected sigmoid(2 * -0.5) = sigmoid(-1) too: every number times 0.268941.
    loss = FullStepDpo(beta=0.5, gamma=LN3, token_rate=2.0)
    out, gradient = run(loss, two_steps(), [[0.0, 0.5, 0.5], [0.0, -0.5, -0.5]])
    close(gradient, [[0, -0.027123, -0.009041], [0, 0.009041, 0.027123]])
    # The surrogate's value shrinks with it: -0.134471 * 0.268941.
    assert out.loss.item() == pytest.approx(-0.036165, abs=1e-6)


def test_the_brake_of_ragged_masked_pairs_worked_by_hand():
    # beta 0 makes g = 1/2 and c = 1 (scale_by_beta off), token_rate ln 3, gamma 0. Sequence 0: two
    # tokens of one step, Delta (1, -1), each 1 of its step; 1: two steps, the first masked,
    # Delta 1. sigmoid(-ln 3) = 1/4, sigmoid(ln 3) = 3/4.
    # Chosen: -1/2 (1/4, 3/4) = (-1/8, -3/8); rejected: 1/2 * 3/4 = 3/8.
    samples = pairs(make_sequence("0", [2]), make_sequence("1", [1, 1], masked_steps=[0]))
    loss = FullStepDpo(beta=0.0, gamma=0.0, scale_by_beta=False, token_rate=LN3)
    _, gradient = run(loss, samples, [[0.0, 1.0, -1.0], [0.0, 40.0, 1.0]])
    close(gradient, [[0, -0.125, -0.375], [0, 0, 0.375]], 1e-12)


def test_without_the_brake_a_factor_is_1_and_a_small_rate_begins_at_a_half():
    rows = [[0.0, 0.5, 0.5], [0.0, -0.5, -0.5]]
    off = run(FullStepDpo(), two_steps(), rows)[1]
    small = run(FullStepDpo(token_rate=1e-9), two_steps(), rows)[1]
    torch.testing.assert_close(small, off / 2)


def test_the_brake_has_no_gradient_of_its_own():
    # A token of gradient -c g alpha brake exactly, whatever the brake's slope there.
    rows = [[0.0, 3.0, 0.0], [0.0, 0.0, -3.0]]
    off = run(FullStepDpo(), two_steps(), rows)[1]
    braked = run(FullStepDpo(token_rate=1.0), two_steps(), rows)[1]
    end = 1.0 / (1.0 + math.exp(3.0))
    close(braked / off.masked_fill(off == 0.0, 1.0), [[0, end, 0.5], [0, 0.5, end]])


def test_the_brake_belongs_to_the_gradient_form():
    with pytest.raises(ValueError, match=r"loss\.token_rate is 1.0, but loss\.form is 'margin'"):
        FullStepDpo(form="margin", token_rate=1.0)
