"""Between a rollout's own tokens and those that a step model reads in their place.

Dimensions: P prompt and T completion tokens of the policy, K steps, L tokens of the step model.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import replace

import numpy as np

from rlstep.interfaces import Reader, StepInputs
from rlstep.tensors.sequences import last_tokens
from rlstep.types import (
    Failure,
    Floats,
    LabelSamples,
    Rollout,
    Samples,
    Sequence,
)


def own_inputs(rollout: Rollout) -> StepInputs:
    """The policy's own tokens; a step is read out at its last one."""
    return StepInputs(
        token_ids=rollout.prefix_ids(len(rollout.steps)), read_at=last_tokens(rollout)
    )


def tagged(head: Seq[int], steps: Iterable[Seq[int]], tag: int, end: Seq[int] = ()) -> StepInputs:
    """`head`, then every step with the tag behind it, where it is read out, then `end`."""
    ids, read_at = list(head), []
    for step in steps:
        ids += [*step, tag]
        read_at.append(len(ids) - 1)
    return StepInputs(
        token_ids=np.array([*ids, *end], dtype=np.int32), read_at=np.array(read_at, dtype=np.int32)
    )


def at_steps(rollout: Rollout, inputs: StepInputs, predictions: Floats) -> Floats:
    """The step model's predictions as if it had read the policy's tokens.

    Args:
        predictions: float32 [L], or [L, numbers of a token].

    Returns:
        float32 [P + T, ...]: the read-outs at the steps' last tokens, NaN everywhere else.
    """
    length = len(rollout.prompt.token_ids) + len(rollout.completion.token_ids)
    out = np.full((length, *predictions.shape[1:]), np.nan, dtype=np.float32)
    out[last_tokens(rollout)] = predictions[inputs.read_at]
    return out


def to_model(samples: Samples, rollouts: Seq[Rollout], read: Reader) -> LabelSamples:
    """Labels of the policy's tokens, on the tokens that the step model reads.

    What cannot be read is left out; scoring has counted it.

    Args:
        samples: labels at steps' last tokens, of whole rollouts.
        rollouts: those that the samples were made of.

    Raises:
        TypeError: the samples are no labels.
        ValueError: a label stands on another token, or its sequence is no whole rollout.
    """
    if not isinstance(samples, LabelSamples):
        raise TypeError(f"a step model with a layout takes LabelSamples, not {type(samples)}")
    by_id = {rollout.rollout_id: rollout for rollout in rollouts}
    sequences, targets, weights = [], [], []
    for number, sequence in enumerate(samples.sequences):
        rollout = by_id.get(sequence.sequence_id)
        if rollout is None:
            raise ValueError(f"{sequence.sequence_id} is labelled, and no whole rollout")
        inputs = read(rollout)
        if isinstance(inputs, Failure):
            continue
        last = last_tokens(rollout)
        if np.delete(sequence.loss_mask, last).any():
            raise ValueError(f"{sequence.sequence_id} has a label beside its steps' last tokens")
        sequences.append(_moved(sequence, inputs, sequence.loss_mask[last]))
        for column, moved in ((samples.targets, targets), (samples.weights, weights)):
            moved.append(np.zeros(len(inputs.token_ids), dtype=np.float32))
            moved[-1][inputs.read_at] = column[number][last]
    return LabelSamples(sequences=tuple(sequences), targets=tuple(targets), weights=tuple(weights))


def _moved(sequence: Sequence, inputs: StepInputs, labelled: np.ndarray) -> Sequence:
    length = len(inputs.token_ids)
    mask, index = np.zeros(length, dtype=bool), np.full(length, -1, dtype=np.int32)
    mask[inputs.read_at] = labelled
    index[inputs.read_at] = np.arange(len(inputs.read_at))
    return replace(
        sequence,
        token_ids=inputs.token_ids,
        loss_mask=mask,
        step_index=index,
        rollout_logprobs=np.zeros(length, dtype=np.float32),
    )
