"""What the tests of the pairwise losses share."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from rlstep.interfaces import Loss, LossOutput
from rlstep.tensors.batching import count
from rlstep.types import Pair, PairSamples, Sequence
from tests.builders import make_batch, make_sequence, pad_rows


def pairs(
    *sequences: Sequence,
    places: Seq[tuple[int, int]] = ((0, 1),),
    scores: Seq[tuple[float, float]] = (),
) -> PairSamples:
    """Pairs by (chosen, rejected) places, with (chosen, rejected) scores of 1 and 0 by default."""
    made = [
        Pair(
            chosen=c,
            rejected=r,
            shared_prefix=1,
            chosen_score=better,
            rejected_score=worse,
            provenance="outcome",
        )
        for (c, r), (better, worse) in zip(
            places, scores or [(1.0, 0.0)] * len(places), strict=True
        )
    ]
    return PairSamples(sequences=sequences, pairs=tuple(made), groups=1)


def one_token(chosen_score: float = 1.0, rejected_score: float = 0.0) -> PairSamples:
    """One pair of one token each."""
    sides = make_sequence("c", [1]), make_sequence("r", [1])
    return pairs(*sides, scores=[(chosen_score, rejected_score)])


def ragged() -> PairSamples:
    """Pairs (0, 1) and (0, 2) of 2, 1 and 2 trained tokens; step 0 of sequence 1 is masked."""
    return pairs(
        make_sequence("0", [2]),
        make_sequence("1", [1, 1], masked_steps=[0]),
        make_sequence("2", [1, 1]),
        places=[(0, 1), (0, 2)],
    )


def run(
    loss: Loss,
    samples: PairSamples,
    rows: Seq[Seq[float]],
    ref: Seq[Seq[float]] = (),
) -> tuple[LossOutput, Tensor]:
    """Output and gradient. Without `ref` its logprobs are 0, so predictions are log-ratios."""
    predictions, batch = pad_rows(rows), make_batch(samples)
    if ref:
        batch.ref_logprobs.copy_(pad_rows(ref).detach())
    out = loss(predictions, batch, count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


def close(actual: Tensor, expected: Seq[Seq[float]], tolerance: float = 1e-6) -> None:
    wanted = torch.tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=0)
