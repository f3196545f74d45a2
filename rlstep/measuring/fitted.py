"""How well a model does on labels that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import NDArray

from rlstep.measuring.metrics import roc_auc
from rlstep.types import AdvantageSamples, Floats, LabelSamples, PairSamples, Samples

_Wide = NDArray[np.float64]


def fit_metrics(samples: Samples, predictions: Seq[Floats], *, scores: bool) -> dict[str, float]:
    """Numbers of one measurement, under 'eval/'.

    Of a language model on solutions 'nll', the mean over trained tokens of -log pi in nats, by
    weight. Of a model that scores, on labels: 'label_loss' (binary cross-entropy in nats, by
    weight), 'label_accuracy' (both sides of one half) and 'auc' of the labels that are above one
    half against the others (left out where there is one kind only); on preferences 'pair_accuracy',
    the share of pairs whose chosen side scores higher at its last trained token, ties one half, and
    'pair_loss', -log sigmoid of the difference.

    Args:
        predictions: of each sequence float32 [L]: logprobs, or a head's logits.
        scores: whether they are a head's.

    Raises:
        ValueError: a policy cannot be measured on preferences alone.
    """
    if isinstance(samples, LabelSamples):
        found = _labelled(samples, predictions)
        return _of_labels(*found) if scores else _of_tokens(*found)
    if isinstance(samples, PairSamples) and scores:
        return _of_pairs(samples, predictions)
    kind = "advantages" if isinstance(samples, AdvantageSamples) else "pairs"
    raise ValueError(f"a policy is not measured on {kind} alone; hold out labels, or nothing")


def _labelled(samples: LabelSamples, predictions: Seq[Floats]) -> tuple[_Wide, _Wide, _Wide]:
    """Predictions, targets and weights of all labelled positions, one after the other."""
    rows = [
        (predicted[mask], targets[mask], weights[mask])
        for predicted, targets, weights, mask in zip(
            predictions,
            samples.targets,
            samples.weights,
            (s.loss_mask for s in samples.sequences),
            strict=True,
        )
    ]
    predicted, targets, weights = (
        np.concatenate(part).astype(np.float64) for part in zip(*rows, strict=True)
    )
    counted = weights > 0.0
    return predicted[counted], targets[counted], weights[counted]


def _of_tokens(logprobs: _Wide, targets: _Wide, weights: _Wide) -> dict[str, float]:
    return {"eval/nll": float(-(weights * logprobs).sum() / weights.sum())}


def _of_labels(logits: _Wide, targets: _Wide, weights: _Wide) -> dict[str, float]:
    # log(1 + e^x) - t x, without overflow
    losses = np.logaddexp(0.0, logits) - targets * logits
    agrees = (logits > 0.0) == (targets > 0.5)
    found = {
        "eval/label_loss": float((weights * losses).sum() / weights.sum()),
        "eval/label_accuracy": float((weights * agrees).sum() / weights.sum()),
    }
    if 0 < (positive := targets > 0.5).sum() < len(positive):
        found["eval/auc"] = roc_auc(logits, positive)
    return found


def _of_pairs(samples: PairSamples, predictions: Seq[Floats]) -> dict[str, float]:
    last = np.array(
        [
            predicted[np.flatnonzero(sequence.loss_mask)[-1]]
            for predicted, sequence in zip(predictions, samples.sequences, strict=True)
        ],
        dtype=np.float64,
    )
    margins = np.array([last[pair.chosen] - last[pair.rejected] for pair in samples.pairs])
    return {
        "eval/pair_accuracy": float(((margins > 0.0) + 0.5 * (margins == 0.0)).mean()),
        "eval/pair_loss": float(np.logaddexp(0.0, -margins).mean()),
    }
