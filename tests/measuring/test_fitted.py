"""Numbers of a supervised training, worked by hand."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from rlstep.measuring.fitted import fit_metrics
from rlstep.types import AdvantageSamples, LabelSamples, Pair, PairSamples, Sequence


def sequence(name: str, length: int, trained: list[int]) -> Sequence:
    mask = np.isin(np.arange(length), trained)
    return Sequence(
        sequence_id=name,
        prompt_id="p",
        token_ids=np.arange(length, dtype=np.int32),
        loss_mask=mask,
        step_index=np.where(mask, 0, -1).astype(np.int32),
        rollout_logprobs=np.zeros(length, np.float32),
        step_scores=np.zeros(1, np.float32),
        oldest_version=0,
    )


def labels(targets: list[float], weights: list[float]) -> LabelSamples:
    """One sequence of a prompt's token and these."""
    n = len(targets)
    return LabelSamples(
        sequences=(sequence("s", n + 1, list(range(1, n + 1))),),
        targets=(np.array([0, *targets], np.float32),),
        weights=(np.array([0, *weights], np.float32),),
    )


def test_a_policys_loss_is_by_weight():
    """(1 * 1 + 3 * 2) / 4; what is not trained, and a weight of 0, do not count."""
    found = fit_metrics(
        labels([1, 1, 1], [1, 3, 0]), [np.array([-9, -1, -2, -5], np.float32)], scores=False
    )
    assert found == {"eval/nll": pytest.approx(7 / 4)}


def test_labels_of_a_model_that_scores():
    """Logits log 3, -log 3 and 0 are 3/4, 1/4 and 1/2. Labels 1, 1, 0: -log 3/4, -log 1/4 and
    log 2; the first is on the right side of one half, and so is the third, which is not above it;
    of the two pairs of a right and a wrong step the first has the right order."""
    logits = np.array([0, log(3), -log(3), 0], np.float32)
    found = fit_metrics(labels([1, 1, 0], [2, 1, 1]), [logits], scores=True)
    loss = (2 * log(4 / 3) + log(4) + log(2)) / 4
    expected = {"eval/label_loss": loss, "eval/label_accuracy": 3 / 4, "eval/auc": 1 / 2}
    assert found == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}


def test_one_kind_of_label_has_no_auc_and_large_logits_do_not_overflow():
    found = fit_metrics(labels([1, 1], [1, 1]), [np.array([0, 900, -900], np.float32)], scores=True)
    assert found == {"eval/label_loss": pytest.approx(450), "eval/label_accuracy": 0.5}


def test_preferences_are_read_at_the_last_trained_token():
    """Margins 2, 0 and -1: one right, one tie, one wrong."""
    ends = [3.0, 1.0, 1.0, 2.0]  # of four completions of two tokens after a prompt of one
    sequences = tuple(sequence(str(i), 4, [1, 2]) for i in range(4))
    predictions = [np.array([9, 9, end, 9], np.float32) for end in ends]
    pairs = tuple(
        Pair(
            chosen=a,
            rejected=b,
            shared_prefix=1,
            chosen_score=1.0,
            rejected_score=0.0,
            provenance="given",
        )
        for a, b in ((0, 1), (1, 2), (2, 3))
    )
    samples = PairSamples(sequences=sequences, pairs=pairs, groups=1)
    found = fit_metrics(samples, predictions, scores=True)
    loss = (log(1 + exp(-2)) + log(2) + log(1 + exp(1))) / 3
    assert found == {"eval/pair_accuracy": 0.5, "eval/pair_loss": pytest.approx(loss)}
    with pytest.raises(ValueError, match="a policy is not measured on pairs alone"):
        fit_metrics(samples, predictions, scores=False)


def test_advantages_are_no_labels():
    samples = AdvantageSamples(sequences=(), advantages=(), groups=0)
    with pytest.raises(ValueError, match="not measured on advantages"):
        fit_metrics(samples, [], scores=True)
