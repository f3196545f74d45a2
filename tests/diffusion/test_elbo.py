from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstep.diffusion.canvas import Canvas, Hidden, left_to_right, masked_copies
from rlstep.diffusion.elbo import canvas_batch, weighted_logprobs
from rlstep.losses.elbo_bgpo import ElboBgpo
from rlstep.tensors.batching import collate, count
from rlstep.types import AdvantageSamples
from tests.builders import double, make_sequence
from tests.diffusion.kit import CANVAS, ids, make_diffusion_model

ROW = ids(2, 3, 4, 3)


def hidden(*places: int, weight: float = 1.0) -> Hidden:
    """ROW on its canvas with some places hidden."""
    mask = np.zeros(6, dtype=bool)
    mask[list(places)] = True
    tokens = np.append(ROW, [1, 1]).astype(np.int32)
    return Hidden(token_ids=tokens, hidden=mask, weights=(mask * weight).astype(np.float32))


def test_worked_by_hand():
    batch = canvas_batch([hidden(1, 3, weight=2.5)], CANVAS)
    assert batch.seen.tolist() == [[2, 5, 4, 5, 1, 1]]
    logits = torch.zeros(1, 6, 6)
    logits[0, 1, 3] = math.log(4.0)  # of 4 + 4 * 1: the mask token's share is nobody's
    logits[0, 3, 5] = 30.0
    # 2.5 log(4 / 8) and 2.5 log(1 / 5).
    expected = [0.0, 2.5 * math.log(0.5), 0.0, 2.5 * math.log(0.2), 0.0, 0.0]
    torch.testing.assert_close(weighted_logprobs(logits, batch, 5), torch.tensor([expected]))
    # At temperature 2 sqrt(4) / (sqrt(4) + 4): 1 / 3.
    cold = weighted_logprobs(logits, batch, 5, temperature=2.0)
    assert cold[0, 1].item() == pytest.approx(2.5 * math.log(1 / 3))


def test_no_rows_count_nothing_and_reach_the_model():
    logits = torch.randn(1, 6, 6, requires_grad=True)
    batch = canvas_batch([], CANVAS)
    out = weighted_logprobs(logits, batch, 5)
    assert not out.any() and batch.seen.tolist() == [[5] * 6]
    out.sum().backward()
    assert not logits.grad.any()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForMaskedLM

    path = make_diffusion_model(tmp_path_factory.mktemp("model"), canvas=6)
    return AutoModelForMaskedLM.from_pretrained(path).double().eval()


REAL = Canvas(length=6, mask=18, end=1)


def logprob(model: Any, known: set[int], place: int) -> float:
    """Of ROW's token at a place given those at the known ones, without this project's code."""
    seen = torch.full((1, 6), 18)
    for at in known:
        seen[0, at] = int(ROW[at])
    logits = model(input_ids=seen).logits[0, place]
    return float(logits.log_softmax(0)[int(ROW[place])] - (1 - logits.softmax(0)[18]).log())


@torch.no_grad()
def test_the_mean_over_all_maskings_is_that_over_all_orders(model: Any):
    """The ELBO is the mean log-likelihood of the chain rule in a random order; of what stands
    behind ROW nothing is known in either."""
    trained = (1, 2, 3)
    orders = list(itertools.permutations(trained))
    chains = [sum(logprob(model, {0, *order[:k]}, order[k]) for k in range(3)) for order in orders]
    exact = 0.0
    for size in (1, 2, 3):
        for places in itertools.combinations(trained, size):
            row = hidden(*places, 4, 5, weight=3 / size)
            row.weights[4:] = 0.0
            batch = canvas_batch([row], REAL)
            sample = weighted_logprobs(model(input_ids=batch.seen).logits, batch, REAL.mask).sum()
            exact += float(sample) / 3 / math.comb(3, size)  # P(size) P(set | size)
    assert exact == pytest.approx(sum(chains) / len(chains), abs=1e-9)


@torch.no_grad()
def test_left_to_right_is_the_chain_in_the_order_of_the_text(model: Any):
    batch = canvas_batch(left_to_right(ROW, REAL), REAL)
    found = weighted_logprobs(model(input_ids=batch.seen).logits, batch, REAL.mask)
    expected = [logprob(model, set(range(t)), t) for t in (1, 2, 3)]
    assert found.sum(1).tolist() == pytest.approx(expected, abs=1e-9)


def gradient(model: Any, value: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


def test_on_policy_the_bound_has_the_gradient_of_the_elbo_objective(model: Any):
    """In float64, micro-batch by micro-batch as a learner adds up, against
    -mean over completions of A ELBO / T in one graph."""
    sequences = [make_sequence("a", [2]), make_sequence("b", [3]), make_sequence("c", [1, 2])]
    rows = [np.where(s.loss_mask, a, 0.0) for s, a in zip(sequences, (1.5, -0.5, 0.7), strict=True)]
    samples = AdvantageSamples(
        sequences=tuple(sequences),
        advantages=tuple(row.astype(np.float32) for row in rows),
        groups=1,
    )
    copies = masked_copies(samples, REAL, 4, np.random.default_rng(0))
    made: list[Any] = list(copies.sequences)
    assert isinstance(copies, AdvantageSamples) and len(made) == 12

    objective = torch.zeros((), dtype=torch.float64)
    for sequence, advantages in zip(made, copies.advantages, strict=True):
        batch = canvas_batch([sequence.canvas], REAL)
        elbo = weighted_logprobs(model(input_ids=batch.seen).logits, batch, REAL.mask).sum()
        advantage = float(advantages[sequence.loss_mask][0])
        objective = objective - advantage * elbo / sequence.loss_mask.sum() / 12
    expected = gradient(model, objective)

    blank = [np.zeros(6, np.float32)] * 12
    whole, counts = double(collate(copies, blank, blank)), count(copies)
    total = torch.zeros_like(expected)
    for part in torch.arange(12).split(5):
        batch = canvas_batch([made[i].canvas for i in part], REAL)
        predictions = weighted_logprobs(model(input_ids=batch.seen).logits, batch, REAL.mask)
        rows_of = whole.rows(part)
        object.__setattr__(rows_of, "old_logprobs", predictions.detach())
        total += gradient(model, ElboBgpo()(predictions, rows_of, counts).loss)  # type: ignore[arg-type]
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
