"""From rollouts to positions with a target: solutions for SFT, samples for distillation, step
labels for a PRM.

A PRM's labels are a view of Monte-Carlo counts: of n continuations of a prefix k were correct. In
the formulas p = k / n of the prefix that ends with a step, p_before of the prefix before that step
(the prompt's, for the first one).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstep.analysis.log_partition import LogPartition
from rlstep.checks import at_least, between, positive
from rlstep.interfaces import LabelView, SampleBuilder
from rlstep.tensors.sequences import is_correct, last_tokens, sequence
from rlstep.types import Floats, Group, Ints, LabelSamples, Rollout, Sequence, StepScores


@dataclass(frozen=True, kw_only=True)
class CorrectOnly(SampleBuilder):
    """Every correct rollout, whole, each token with weight 1: fine-tuning on own correct samples.

    The baseline that preference methods have to beat (rejection fine-tuning, Yuan et al. 2023,
    arXiv:2308.01825).
    """

    makes: ClassVar[type] = LabelSamples

    def samples(self, groups: Seq[Group]) -> LabelSamples:
        correct = [rollout for group in groups for rollout in group.rollouts if is_correct(rollout)]
        sequences = tuple(sequence(rollout) for rollout in correct)
        ones = tuple(s.loss_mask.astype(np.float32) for s in sequences)
        return LabelSamples(sequences=sequences, targets=ones, weights=ones)


@dataclass(frozen=True, kw_only=True)
class EverySample(SampleBuilder):
    """Every rollout, right or wrong, each of its own tokens with weight 1: on-policy distillation.

    For a loss whose signal is in the tokens' distributions, as `losses.distillation.Distillation`
    has it from a teacher (GKD, Agarwal et al. 2023, arXiv:2306.13649, with all data the policy's
    own samples). No score is read. What a branch inherited is trained where it was sampled.
    """

    makes: ClassVar[type] = LabelSamples
    sources: ClassVar[frozenset[str]] = frozenset()

    def samples(self, groups: Seq[Group]) -> LabelSamples:
        rollouts = [r for group in groups for r in group.rollouts if r.own.any()]
        sequences = tuple(sequence(rollout, start=rollout.inherited) for rollout in rollouts)
        ones = tuple(s.loss_mask.astype(np.float32) for s in sequences)
        return LabelSamples(sequences=sequences, targets=ones, weights=ones)


# --- views of Monte-Carlo counts -----------------------------------------------------------------

_LARGEST_ETA = 1e9
"""Of a running estimate: there the value is the limit's to nine digits."""


@dataclass(frozen=True, kw_only=True)
class Soft(LabelView):
    """The share of correct continuations, p, with weight n: every continuation counts once.

    Math-Shepherd's soft estimate (Wang et al. 2023, arXiv:2312.08935, eq. 4). With these weights
    the cross-entropy is the likelihood of the continuations. Its standard error is
    sqrt(p (1 - p) / n).
    """

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        return _label(_shares(n, k)[1:], n[1:])


@dataclass(frozen=True, kw_only=True)
class Hard(LabelView):
    """1 if any continuation was correct, 0 if none was, with weight 1.

    Math-Shepherd's hard estimate (arXiv:2312.08935, eq. 3). Of a viable step with p = 0.1 eight
    continuations all fail in 43 % of cases.
    """

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        return _label(k[1:] > 0, n[1:] > 0)


@dataclass(frozen=True, kw_only=True)
class Threshold(LabelView):
    """1 if the share of correct continuations is at least `share`, else 0, with weight 1.

    The hard label with a threshold (Zhang et al. 2025, arXiv:2501.07301). Compared as fractions, so
    that 4 of 5 are a share of 0.8.
    """

    share: float = 0.5
    """Above 0 (`Hard` is its limit there) and at most 1."""

    def __post_init__(self) -> None:
        positive("view.share", self.share)
        between("view.share", self.share, 0.0, 1.0)

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        share = _as_written(self.share)
        return _label(_at_least_times(k[1:], n[1:], share), n[1:] > 0)


@dataclass(frozen=True, kw_only=True)
class EntropyRegularised(LabelView):
    """(1/eta) ln(1 - p + p e^eta): the value of a step to a policy held to its reference by a KL.

    ER-PRM (Zhang et al. 2024, arXiv:2412.11006): (1/eta) ln E exp(eta r) over continuations of the
    reference, r being 1 for a correct one and 0 otherwise. At eta 0 it is p, towards +inf `Hard`,
    towards -inf 1 only where every continuation was correct. Weight n, as for the soft estimate.

    The logarithm of a mean over few continuations is too low on average (for eta above 0). Where a
    tree visits a prefix again (`OmegaPrm.visits`), the mean is taken over its visits first.
    """

    eta: float = 1.0
    """How much the best continuations count (above 0), or the worst (under 0)."""
    gamma: float = 0.0
    """In (0, 1], how much the latest visit of a prefix counts (see `analysis.log_partition`), for
    values that move between visits; 0: all continuations of all visits count alike."""

    def __post_init__(self) -> None:
        at_least("view.eta", self.eta, -np.inf)
        between("view.gamma", self.gamma, 0.0, 1.0)
        if self.gamma:
            between("view.eta (with gamma)", self.eta, -_LARGEST_ETA, _LARGEST_ETA)

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        return _label(_tilted_mean(_shares(n, k)[1:], self.eta), n[1:])

    def labels_of_visits(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        if not self.gamma:
            return LabelView.labels_of_visits(self, n, k)
        values = [self._running(*visits) for visits in zip(n.T[1:], k.T[1:], strict=True)]
        return _label(np.array(values, dtype=np.float64), n.sum(0)[1:])

    def _running(self, n: Ints, k: Ints) -> float:
        """The value of one prefix after its visits, [V]; one without a continuation changes
        nothing."""
        eta = self.eta if abs(self.eta) > 1e-6 else 1e-6  # p to 1e-6, where eta = 0 is only p
        estimate = LogPartition(gamma=self.gamma)
        for drawn, right in zip(n.tolist(), k.tolist(), strict=True):
            if drawn:
                estimate = estimate.visited(np.where(np.arange(drawn) < right, eta, 0.0))
        value = (estimate.log_u or 0.0) / eta  # None without a continuation, and then left out
        return min(max(value, 0.0), 1.0)


@dataclass(frozen=True, kw_only=True)
class RelativeProgress(LabelView):
    """1 if p / p_before is at least `least`, else 0; after the first p of 0 all steps are 0.

    GenPRM's relative progress (Zhao et al. 2025, arXiv:2504.00891). Compared as fractions, so that
    0.5 to 0.4 is a ratio of 0.8; 0 to 0 is no progress. Weight 1; a step is left out where its own
    prefix was not continued, or where only p_before is unknown and p is not 0. So the labeller
    should continue every step.
    """

    least: float = 0.8
    """The smallest ratio that counts as progress. At most 1: no step improves on a p of 1."""

    def __post_init__(self) -> None:
        positive("view.least", self.least)
        between("view.least", self.least, 0.0, 1.0)

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        least = _as_written(self.least)
        counts = zip(n[:-1].tolist(), k[:-1].tolist(), n[1:].tolist(), k[1:].tolist(), strict=True)
        progress = np.array(
            [kept > 0 and kept * n0 >= least * k0 * n1 for n0, k0, n1, kept in counts], dtype=bool
        )
        lost = _after(_failed(n[1:], k[1:]))
        known = (n[1:] > 0) & ((n[:-1] > 0) | (k[1:] == 0) | lost)
        return _label(progress & ~lost, known)


@dataclass(frozen=True, kw_only=True)
class ProverProgress(LabelView):
    """(1 + A) / 2 with A the progress that a step makes for a prover, the best of K completions.

    Process advantage verifiers (Setlur et al. 2024, arXiv:2410.08146): A = V - V_before with
    V = 1 - (1 - p)^K. The label is a probability, so a score of 1/2 is no progress, and
    2 score - 1 is the advantage. Weight 1; a step is left out where its prefix or the one before
    has no continuation.
    """

    prover_samples: int = 4
    """K. At 1 the prover is the policy, which says no more than the policy's own advantage."""

    def __post_init__(self) -> None:
        at_least("view.prover_samples", self.prover_samples, 1)

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        values = 1.0 - (1.0 - _shares(n, k)) ** self.prover_samples
        return _label((1.0 + np.diff(values)) / 2.0, (n[1:] > 0) & (n[:-1] > 0))


@dataclass(frozen=True, kw_only=True)
class UntilFirstError(LabelView):
    """Another view's labels up to the first error; the steps after it are left out of the loss.

    The error is the first step of which every continuation failed. What follows a wrong step is
    neither right nor a first error, and annotators stop there too (PRM800K, Lightman et al. 2023,
    arXiv:2305.20050).
    """

    of: LabelView = Soft()
    """Whose labels."""
    continuations: int = 2
    """So many must have failed; a single one, such as the rollout itself, says too little."""

    def __post_init__(self) -> None:
        at_least("view.continuations", self.continuations, 1)

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        return self._until_error(n, k, self.of.labels(n, k))

    def labels_of_visits(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        together = n.sum(0, dtype=np.int32), k.sum(0, dtype=np.int32)
        return self._until_error(*together, self.of.labels_of_visits(n, k))

    def _until_error(
        self, n: Ints, k: Ints, labels: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats]:
        targets, weights = labels
        error = _failed(n[1:], k[1:]) & (n[1:] >= self.continuations)
        return _label(targets, np.where(_after(error), 0.0, weights))


@dataclass(frozen=True, kw_only=True)
class LocatedError(LabelView):
    """What a search for the first error found (`FirstErrorSearch`): 1 for every step up to the last
    high prefix, 0 for the next one where that is low; the steps after it are left out.

    A prefix is high where its share of correct continuations is at least `threshold`. From it the
    steps before follow: what is finished correctly had no error until there. Weight 1. A wrong
    rollout that was not searched has no label, a correct one is right in every step.
    """

    threshold: float = 0.5
    """The search's own (`BetaStopping.threshold`)."""

    def __post_init__(self) -> None:
        positive("view.threshold", self.threshold)
        between("view.threshold", self.threshold, 0.0, 1.0)

    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        drawn, right = n[1:], k[1:]
        high = (drawn > 0) & _at_least_times(right, drawn, _as_written(self.threshold))
        step, error = np.arange(len(drawn)), int(high.nonzero()[0].max(initial=-1)) + 1
        known = (step < error) | ((step == error) & (drawn > 0))
        return _label(step < error, known.astype(np.float32))


def _label(targets: NDArray, weights: NDArray) -> tuple[Floats, Floats]:
    """Both as float32, the targets 0 where the weight is."""
    kept = np.where(weights > 0, targets, 0.0)
    return kept.astype(np.float32), weights.astype(np.float32)


def _shares(n: Ints, k: Ints) -> NDArray[np.float64]:
    """k / n, 0 where nothing was drawn."""
    return k / np.maximum(n, 1)


def _failed(n: Ints, k: Ints) -> NDArray[np.bool_]:
    """Where continuations were drawn, and none was correct."""
    return (n > 0) & (k == 0)


def _after(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True behind the first True."""
    return np.cumsum(found) - found > 0


def _as_written(number: float) -> Fraction:
    """0.8 is 4/5, and not the binary fraction next to it."""
    return Fraction(str(number))


def _at_least_times(k: Ints, n: Ints, share: Fraction) -> NDArray[np.bool_]:
    """k >= share n, exactly."""
    return np.array([a >= share * b for a, b in zip(k.tolist(), n.tolist(), strict=True)], bool)


def _tilted_mean(p: NDArray[np.float64], eta: float) -> NDArray[np.float64]:
    """(1/eta) ln(1 - p + p e^eta), for any eta without overflow.

    Above 0 it is 1 + (1/eta) ln(1 + (1 - p) (e^-eta - 1)), where nothing grows; under 0 it follows
    from the symmetry f(p, eta) = 1 - f(1 - p, -eta). Under 1e-8 it is p to float32's precision.
    """
    if eta < 0:
        return 1.0 - _tilted_mean(1.0 - p, -eta)
    if eta < 1e-8:
        return p
    some = np.where(p > 0, p, 1.0)
    return np.where(p > 0, 1.0 + np.log1p((1.0 - some) * np.expm1(-eta)) / eta, 0.0)


# --- labels of rollouts --------------------------------------------------------------------------


def step_labels(rollouts: Seq[Rollout], view: LabelView = Soft()) -> LabelSamples:
    """PRM labels from Monte-Carlo counts: a step's target and weight stand at its last token.

    What a view gives no weight is masked; rollouts without any labelled step are left out. The
    counts of a prompt are those of its own rollouts in the batch: how many were verified, and how
    many of these were correct (a truncated one is not).
    """
    prompts = _prompt_counts(rollouts)
    columns = [
        _label_columns(rollout, scores, prompts.get(rollout.prompt.prompt_id, (0, 0)), view)
        for rollout in rollouts
        if (scores := rollout.step_scores("monte_carlo")) is not None and scores.n is not None
    ]
    columns = [column for column in columns if column[0].loss_mask.any()]
    return LabelSamples(
        sequences=tuple(column[0] for column in columns),
        targets=tuple(column[1] for column in columns),
        weights=tuple(column[2] for column in columns),
    )


def step_token_labels(rollouts: Seq[Rollout], view: LabelView = Soft()) -> LabelSamples:
    """The same labels at every token of a step: its target, and its share of the weight.

    For step models that are language models, whose score of a step comes of all of its tokens.
    """
    labels = step_labels(rollouts, view)
    rows = zip(labels.sequences, labels.targets, labels.weights, strict=True)
    spread = [_over_tokens(*row) for row in rows]
    return LabelSamples(
        sequences=tuple(row[0] for row in spread),
        targets=tuple(row[1] for row in spread),
        weights=tuple(row[2] for row in spread),
    )


def _over_tokens(
    labelled: Sequence, targets: Floats, weights: Floats
) -> tuple[Sequence, Floats, Floats]:
    """Columns of the steps' last tokens as columns of all their tokens, float32 [L] each."""
    inside = labelled.step_index >= 0
    index = labelled.step_index[inside]
    of_steps = [np.bincount(index, weights=column[inside]) for column in (targets, weights)]
    columns = np.zeros((2, len(inside)), dtype=np.float32)
    columns[:, inside] = of_steps[0][index], (of_steps[1] / np.bincount(index))[index]
    return replace(labelled, loss_mask=columns[1] > 0.0), columns[0], columns[1]


def _prompt_counts(rollouts: Seq[Rollout]) -> dict[str, tuple[int, int]]:
    """n and k of every prompt, over its independent rollouts with a verdict."""
    counts: dict[str, tuple[int, int]] = {}
    for rollout in rollouts:
        if rollout.parent is None and rollout.outcome is not None:
            n, k = counts.get(rollout.prompt.prompt_id, (0, 0))
            right = is_correct(rollout) and not rollout.completion.truncated
            counts[rollout.prompt.prompt_id] = (n + 1, k + right)
    return counts


def _label_columns(
    rollout: Rollout, scores: StepScores, prompt: tuple[int, int], view: LabelView
) -> tuple[Sequence, Floats, Floats]:
    """The rollout's sequence, and its targets and weights, float32 [L] each."""
    assert scores.n is not None and scores.k is not None, f"{rollout.rollout_id}: no raw counts"
    if scores.visits is not None:
        # The prompt's own rollouts are its first visit, and the others are none of it.
        own = np.zeros((2, scores.visits.shape[1], 1), dtype=np.int32)
        own[:, 0, 0] = prompt
        visited = np.concatenate([own, scores.visits], axis=2)
        return labelled_steps(rollout, *view.labels_of_visits(*visited))
    n, k = (np.append(own, rest) for own, rest in zip(prompt, (scores.n, scores.k), strict=True))
    return labelled_steps(rollout, *view.labels(n.astype(np.int32), k.astype(np.int32)))


def labelled_steps(
    rollout: Rollout, targets: Floats, weights: Floats
) -> tuple[Sequence, Floats, Floats]:
    """The rollout's sequence, and targets and weights at its steps' last tokens, float32 [L] each.

    Args:
        targets: float32 [K].
        weights: float32 [K], >= 0; a step of weight 0 is masked.
    """
    whole, last = sequence(rollout), last_tokens(rollout)
    columns = np.zeros((2, len(whole.token_ids)), dtype=np.float32)
    columns[:, last] = targets, weights
    return replace(whole, loss_mask=columns[1] > 0), columns[0], columns[1]
