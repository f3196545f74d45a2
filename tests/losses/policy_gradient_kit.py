"""What the tests of the policy gradients share."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rlstep.interfaces import AdvantageBatch, LossOutput
from rlstep.losses.policy_gradient import PolicyGradient
from rlstep.tensors.batching import count
from rlstep.types import AdvantageSamples, Sequence
from tests.builders import make_batch, make_sequence, pad_rows

Rows = Seq[Seq[float]]


def samples_of(sequences: Seq[Sequence], advantages: Rows) -> AdvantageSamples:
    columns = tuple(np.array(row, dtype=np.float32) for row in advantages)
    return AdvantageSamples(sequences=tuple(sequences), advantages=columns, groups=1)


def one_token(advantage: float) -> AdvantageSamples:
    """One sequence of a prompt token and a trained one."""
    return samples_of([make_sequence("a", [1])], [[0.0, advantage]])


def ragged() -> AdvantageSamples:
    """Two tokens with A = 1; and one trained token with A = -2 behind a masked step."""
    return samples_of(
        [make_sequence("0", [2]), make_sequence("1", [1, 1], masked_steps=[0])],
        [[0, 1, 1], [0, 9, -2]],
    )


RAGGED_ROWS = [[0.0, 0.0, math.log(1.1)], [0.0, 50.0, math.log(0.9)]]
"""Log-ratios for `ragged`: rho = 1, 1.1 and 0.9."""


def run(
    loss: PolicyGradient, samples: AdvantageSamples, rows: Rows, **columns: Rows
) -> tuple[LossOutput, Tensor]:
    """Output and gradient; all logprobs are 0 but the policy's `rows` and the given columns."""
    predictions = pad_rows(rows)
    batch = make_batch(samples)
    assert isinstance(batch, AdvantageBatch)
    batch = replace(batch, **{name: pad_rows(column).detach() for name, column in columns.items()})
    out = loss(predictions, batch, count(samples))
    (gradient,) = torch.autograd.grad(out.loss, predictions)
    return out, gradient


def close(actual: Tensor, expected: Rows, tolerance: float = 1e-6) -> None:
    wanted = torch.tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=0)
