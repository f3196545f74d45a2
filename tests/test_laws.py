"""Laws of the arithmetic (design section 8), as properties over every loss.

Some hold for every loss; the others are declared by the losses they hold for (`Loss.laws`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlstep.interfaces import COLUMNS, Batch, LabelBatch, Loss, LossOutput, PairBatch
from rlstep.losses.bradley_terry import BradleyTerry
from rlstep.losses.correction import Correction
from rlstep.losses.dpo import Dpo
from rlstep.losses.dpo_nll import DpoNll
from rlstep.losses.dr_grpo import DrGrpo
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.gaussian_label import GaussianLabelLoss
from rlstep.losses.grpo import Grpo
from rlstep.losses.gspo import Gspo
from rlstep.losses.ipo import Ipo
from rlstep.losses.kl import Kl
from rlstep.losses.kto import Kto
from rlstep.losses.means import ConstantLength
from rlstep.losses.policy_gradient import Clip, PolicyGradient
from rlstep.losses.ppo import Ppo
from rlstep.losses.reinforce import Reinforce
from rlstep.losses.score_offset_dpo import ScoreOffsetDpo
from rlstep.losses.step_dpo import StepDpo
from rlstep.losses.value import ValueLoss
from rlstep.tensors.batching import collate, count
from rlstep.types import (
    AdvantageSamples,
    Counts,
    LabelSamples,
    Pair,
    PairSamples,
    Samples,
)
from tests.builders import double, make_sequence
from tests.losses.by_hand import BY_HAND
from tests.losses.every import loss_classes

# --- the members ---------------------------------------------------------------------------------


CLASSES = loss_classes()
LOSSES: list[Loss] = [
    *(c() for c in CLASSES),
    Dpo(beta=2.0, label_smoothing=0.2),
    FullStepDpo(beta=0.7, gamma=3.0, form="margin"),
    FullStepDpo(beta=0.7, gamma=3.0, softmax_over="token", normalise="mean1"),
    FullStepDpo(gamma=3.0, form="margin", softmax_over="token", scale_by_beta=False),
    FullStepDpo(beta=0.7, gamma=3.0, mean_over="prompt"),
    FullStepDpo(beta=0.7, gamma=3.0, form="margin", mean_over="prompt"),
    Grpo(surrogate=Clip(high=0.28), kl=Kl(coefficient=0.3), correction=Correction(mode="truncate")),
    Ppo(surrogate=Clip(dual=1.5), correction=Correction(mode="mask", level="sequence", low=0.7)),
    ValueLoss(clip=0.2),
    GaussianLabelLoss(form="sampled"),
    FullStepDpo(beta=0.7, gamma=3.0, scale_by_beta=False, softmax_over="token", token_rate=1.0),
    Ipo(beta=0.7, per_token=True),
    DpoNll(beta=0.7, alpha=3.0, alpha_weighs="nll"),
    ScoreOffsetDpo(beta=0.7, scale=2.0, label_smoothing=0.2),
    Kto(beta=0.7, desirable_weight=1.3, undesirable_weight=0.6),
]
VARIANTS: list[Loss] = [
    BradleyTerry(margin=0.7, centering=0.1),
    DrGrpo(mean=ConstantLength(length=4), kl=Kl(coefficient=0.3, estimator="k2"), entropy=0.1),
    Gspo(surrogate=Clip(), kl=Kl(coefficient=0.3, estimator="k1", place="reward"), entropy=0.1),
    Reinforce(kl=Kl(coefficient=0.3, place="reward"), correction=Correction(mode="mask")),
    Ppo(distillation=0.3, entropy=0.1),
    DrGrpo(mean=ConstantLength(length=4), distillation=0.3),
]
"""Settings that keep the laws of every loss, and not all that their class declares."""
every_loss = pytest.mark.parametrize("loss", LOSSES + VARIANTS, ids=repr)
few = settings(max_examples=3 if settings().derandomize else 100)  # of hundreds of plug-ins

# --- random cases --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A loss's arguments, in float64, with every sequence trained somewhere."""

    predictions: Tensor
    batch: Batch
    counts: Counts


@st.composite
def cases(draw: st.DrawFn, takes: type, step_tokens: int = 3, steps: int = 3) -> Case:
    """Ragged sequences with masked steps; numbers from a drawn seed."""
    step_lengths = st.lists(st.integers(1, step_tokens), min_size=1, max_size=steps)
    shapes = draw(st.lists(step_lengths, min_size=2, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sequences = tuple(
        make_sequence(
            f"{i}",
            lengths,
            scores=random.random(len(lengths)).tolist(),
            # one step at most stays untrained, never the only one
            masked_steps=[int(random.integers(1, 4))] if len(lengths) > 1 else [],
        )
        for i, lengths in enumerate(shapes)
    )
    lengths = [len(s.token_ids) for s in sequences]
    columns = tuple(random.random(length).astype(np.float32) for length in lengths)
    others = tuple(random.normal(size=length).astype(np.float32) for length in lengths)
    samples: Samples
    if takes is PairSamples:
        pairs = tuple(
            Pair(
                chosen=i,
                rejected=j,
                shared_prefix=1,
                chosen_score=high,
                rejected_score=low,
                provenance="outcome",
            )
            for i, j in combinations(range(len(shapes)), 2)
            for low, high in [sorted(random.random(2).tolist())]  # win rates
            if random.random() < 0.7 or (i, j) == (0, 1)
        )
        samples = PairSamples(sequences=sequences, pairs=pairs, groups=1)
    elif takes is AdvantageSamples:
        samples = AdvantageSamples(sequences=sequences, advantages=others, groups=1)
    else:
        samples = LabelSamples(sequences=sequences, targets=columns, weights=columns)
    # Labels may be of a scalar head, whose outputs are any number; logprobs are below 0.
    most = math.inf if takes is LabelSamples else -0.01
    old = [np.minimum(random.normal(size=length) - 1.0, most) for length in lengths]
    ref = [np.minimum(row + random.normal(size=len(row)), most) for row in old]
    batch = double(collate(samples, old, ref))
    near = torch.from_numpy(random.normal(scale=0.3, size=tuple(batch.token_ids.shape)))
    sampled = batch.old_logprobs + 0.3 * torch.rand_like(batch.old_logprobs)
    batch = replace(batch, rollout_logprobs=sampled.clamp(max=most))
    return Case((batch.old_logprobs + near).clamp(max=most), batch, count(samples))


def evaluate(loss: Loss, case: Case) -> tuple[LossOutput, Tensor]:
    """The loss's output and its gradient by the predictions."""
    leaf = case.predictions.clone().requires_grad_()
    # Any entropies, divergences or log sigmas do: here they fall as the logprobs grow.
    further = len(loss.reads.intersection(COLUMNS)) + loss.outputs - 1
    columns = [leaf, *(1.0 - 0.5 * (i + 1) * leaf for i in range(further))]
    out = loss(torch.stack(columns, -1) if further else leaf, case.batch, case.counts)
    (gradient,) = torch.autograd.grad(out.loss, leaf)
    return out, gradient


def same(one: tuple[LossOutput, Tensor], other: tuple[LossOutput, Tensor]) -> None:
    torch.testing.assert_close(one[0].loss, other[0].loss)
    torch.testing.assert_close(one[1], other[1])
    torch.testing.assert_close(dict(one[0].metrics), dict(other[0].metrics))


# --- laws of every loss --------------------------------------------------------------------------


@every_loss
@few
@given(data=st.data())
def test_garbage_in_masked_positions_changes_nothing(loss: Loss, data: st.DataObject):
    case = data.draw(cases(loss.takes))
    outside = ~case.batch.loss_mask
    spoiled = {
        name: getattr(case.batch, name).masked_fill(outside, garbage)
        for f, garbage in zip(fields(case.batch), [math.nan, math.inf, -1e30] * 9, strict=False)
        if (name := f.name).endswith(("logprobs", "advantages", "targets", "weights"))
    }
    untrained = torch.ones_like(case.batch.step_scores, dtype=torch.bool)
    for row in range(len(untrained)):
        trained = case.batch.step_index[row][case.batch.loss_mask[row]]
        untrained[row, trained] = False
    spoiled["step_scores"] = case.batch.step_scores.masked_fill(untrained, math.nan)
    garbage = replace(
        case,
        predictions=case.predictions.masked_fill(outside, math.nan),
        batch=replace(case.batch, **spoiled),
    )
    clean, dirty = evaluate(loss, case), evaluate(loss, garbage)
    same(clean, dirty)
    assert (dirty[1][outside] == 0.0).all()


@every_loss
@few
@given(data=st.data())
def test_more_padding_changes_nothing(loss: Loss, data: st.DataObject):
    case = data.draw(cases(loss.takes))
    shape = case.batch.token_ids.shape
    wider = {
        f.name: torch.nn.functional.pad(column, (0, 2), value=-1 if f.name == "step_index" else 0)
        for f in fields(case.batch)
        if (column := getattr(case.batch, f.name)).shape == shape
    }
    padded = Case(
        torch.nn.functional.pad(case.predictions, (0, 2)),
        replace(case.batch, **wider),
        case.counts,
    )
    out, gradient = evaluate(loss, padded)
    same(evaluate(loss, case), (out, gradient[:, :-2]))


@every_loss
@few
@given(data=st.data())
def test_the_padding_side_does_not_matter(loss: Loss, data: st.DataObject):
    case = data.draw(cases(loss.takes))
    shape = case.batch.token_ids.shape
    places = torch.arange(shape[1]) - (shape[1] - case.batch.lengths)[:, None]
    places = places % shape[1]  # position 0 of a sequence goes to where the left padding ends
    columns = {
        f.name: column.gather(1, places)
        for f in fields(case.batch)
        if (column := getattr(case.batch, f.name)).shape == shape
    }
    left = Case(case.predictions.gather(1, places), replace(case.batch, **columns), case.counts)
    out, gradient = evaluate(loss, case)
    same((out, gradient.gather(1, places)), evaluate(loss, left))


@every_loss
@few
@given(data=st.data())
def test_permuting_the_sequences_permutes_the_gradient(loss: Loss, data: st.DataObject):
    case = data.draw(cases(loss.takes))
    order = torch.tensor(data.draw(st.permutations(range(len(case.predictions)))))
    shuffled = Case(case.predictions[order], permuted(case.batch, order), case.counts)
    out, gradient = evaluate(loss, case)
    same((out, gradient[order]), evaluate(loss, shuffled))


def permuted(batch: Batch, order: Tensor) -> Batch:
    """The batch with its rows in another order, pairs following their sequences."""
    if not isinstance(batch, PairBatch):
        return batch.rows(order)
    place = torch.argsort(order)
    columns = {f.name: getattr(batch, f.name) for f in fields(batch)}
    pairs = {name: place[columns.pop(name)] for name in ("chosen", "rejected")}
    pairs |= {name: columns.pop(name) for name in ("chosen_score", "rejected_score", "prompt")}
    return PairBatch(**{name: column[order] for name, column in columns.items()}, **pairs)


@every_loss
@few
@given(data=st.data())
def test_a_batch_without_signal_gives_exactly_zero(loss: Loss, data: st.DataObject):
    case = data.draw(cases(loss.takes))
    if isinstance(case.batch, PairBatch):
        none = torch.zeros(0, dtype=torch.int64)
        batch = replace(
            case.batch,
            chosen=none,
            rejected=none,
            chosen_score=none.double(),
            rejected_score=none.double(),
            prompt=none,
        )
        silent = replace(case, batch=batch, counts=replace(case.counts, pairs=0))
    else:
        batch = replace(case.batch, loss_mask=torch.zeros_like(case.batch.loss_mask))
        silent = replace(case, batch=batch, counts=Counts(sequences=len(batch.lengths), tokens=0))
    out, gradient = evaluate(loss, silent)
    assert out.loss.item() == 0.0 and (gradient == 0.0).all()
    assert all(value.isfinite() for value in out.metrics.values())


@every_loss
@few
@given(data=st.data())
def test_any_cut_into_micro_batches_gives_the_whole(loss: Loss, data: st.DataObject):
    """Separable losses: values, metrics and gradients of the parts add up to those of the batch."""
    case = data.draw(cases(loss.takes))
    if not loss.separable:
        with pytest.raises(TypeError):
            case.batch.rows(torch.tensor([0]))
        return
    number = len(case.predictions)
    drawn = data.draw(st.lists(st.integers(0, 2), min_size=number, max_size=number))
    owner = torch.tensor(drawn)
    parts = [index for part in range(3) if len(index := torch.nonzero(owner == part)[:, 0])]
    outputs = [
        evaluate(loss, Case(case.predictions[index], case.batch.rows(index), case.counts))
        for index in parts
    ]
    whole, gradient = evaluate(loss, case)
    torch.testing.assert_close(sum(out.loss for out, _ in outputs), whole.loss)
    torch.testing.assert_close(torch.cat([g for _, g in outputs]), gradient[torch.cat(parts)])
    for name, value in whole.metrics.items():
        torch.testing.assert_close(sum(out.metrics[name] for out, _ in outputs), value)


@every_loss
@few
@given(data=st.data())
def test_metrics_carry_no_graph_and_what_is_not_read_does_not_matter(
    loss: Loss, data: st.DataObject
):
    case = data.draw(cases(loss.takes))
    out, gradient = evaluate(loss, case)
    assert not any(value.requires_grad for value in out.metrics.values())
    unread = {"old_logprobs", "ref_logprobs"} - loss.reads
    zeros = {name: torch.zeros_like(case.predictions) for name in unread}
    other = evaluate(loss, replace(case, batch=replace(case.batch, **zeros)))
    torch.testing.assert_close((out.loss, gradient), (other[0].loss, other[1]))


@every_loss
@few
@given(data=st.data())
def test_a_sequence_in_no_pair_is_not_trained(loss: Loss, data: st.DataObject):
    case = data.draw(cases(loss.takes))
    if not isinstance(case.batch, PairBatch):
        return
    alone = torch.ones(len(case.predictions), dtype=torch.bool)
    alone[torch.cat([case.batch.chosen, case.batch.rejected])] = False
    moved = replace(case, predictions=case.predictions - 0.5 * alone[:, None])
    out, gradient = evaluate(loss, case)
    same((out, gradient), evaluate(loss, moved))
    assert (gradient[alone] == 0.0).all()


# --- degenerate inputs ---------------------------------------------------------------------------

# name: steps' lengths of the two sequences, the policy's and the reference's logprob of their
# tokens. Sequence 0 is chosen, or has advantage 1; sequence 1 is rejected, or has advantage -1.
Sides = tuple[float, float]
DEGENERATE: dict[str, tuple[list[list[int]], Sides, Sides]] = {
    "one pair of one token": ([[1], [1]], (-0.5, -0.75), (-0.6, -0.55)),
    "one step": ([[3], [2]], (-0.5, -0.75), (-0.6, -0.55)),
    "policy equal to reference": ([[2, 1], [1, 2]], (-0.5, -0.75), (-0.5, -0.75)),
    "far on the right side": ([[1], [1]], (-1.0, -21.0), (-21.0, -1.0)),
    "far on the wrong side": ([[1], [1]], (-21.0, -1.0), (-1.0, -21.0)),
    "both far up": ([[1], [1]], (-1.0, -1.5), (-21.0, -21.5)),
    "both far down": ([[1], [1]], (-21.0, -21.5), (-1.0, -1.5)),
    "certain": ([[2], [1, 1]], (0.0, 0.0), (-0.5, -0.5)),
    "1,000 steps": ([[1] * 1000, [1] * 1000], (-0.5, -0.75), (-0.501, -0.749)),
    "1,000 steps and one": ([[1] * 1000, [1]], (-0.5, -0.75), (-0.501, -0.749)),
}
# A policy gradient clips these ratios, and a label that is certain in float32 teaches nothing.
RIGHTLY_ZERO = {name for name in DEGENERATE if "far" in name or name == "certain"}


def degenerate(takes: type, name: str, dtype: torch.dtype) -> Case:
    """Every step score is exactly 0."""
    lengths, policy, reference = DEGENERATE[name]
    sequences = tuple(make_sequence(str(i), row) for i, row in enumerate(lengths))
    masks = [s.loss_mask for s in sequences]
    samples: Samples
    if takes is PairSamples:
        pair = Pair(
            chosen=0,
            rejected=1,
            shared_prefix=1,
            chosen_score=1.0,
            rejected_score=0.0,
            provenance="outcome",
        )
        samples = PairSamples(sequences=sequences, pairs=(pair,), groups=1)
    elif takes is AdvantageSamples:
        signs = tuple(np.where(m, sign, 0.0) for m, sign in zip(masks, (1, -1), strict=True))
        samples = AdvantageSamples(
            sequences=sequences, advantages=tuple(a.astype(np.float32) for a in signs), groups=1
        )
    else:
        ones = tuple(m.astype(np.float32) for m in masks)
        targets = (ones[0], np.zeros_like(ones[1]))
        samples = LabelSamples(sequences=sequences, targets=targets, weights=ones)
    now, ref = (
        [m * value for m, value in zip(masks, side, strict=True)] for side in (policy, reference)
    )
    batch = double(collate(samples, ref, ref))
    floats = {
        f.name: column.to(dtype)
        for f in fields(batch)
        if (column := getattr(batch, f.name)).is_floating_point()
    }
    predictions = double(collate(samples, now, ref)).old_logprobs.to(dtype)
    floats["rollout_logprobs"] = floats["old_logprobs"]
    batch = replace(batch, **floats)
    return Case(predictions, batch, count(samples))


@every_loss
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)], ids=str
)
def test_degenerate_inputs_give_finite_numbers_and_no_wrong_zero(
    loss: Loss, name: str, dtype: torch.dtype
):
    case = degenerate(loss.takes, name, dtype)
    out, gradient = evaluate(loss, case)
    assert out.loss.isfinite() and gradient.isfinite().all()
    assert all(value.isfinite() for value in out.metrics.values())
    assert (gradient[~case.batch.loss_mask] == 0.0).all()
    clipped = float(out.metrics.get("clip_fraction", 0.0)) > 0.0  # GSPO's bounds are narrow
    if loss.takes is PairSamples or not (name in RIGHTLY_ZERO or clipped):
        only_last = "only_the_last_token_counts" in loss.laws
        counted = last_tokens(case) if only_last else case.batch.loss_mask
        assert (gradient[counted] != 0.0).all()


# --- laws that losses declare --------------------------------------------------------------------

Law = Callable[[Loss, st.DataObject], None]
LAWS: dict[str, Law] = {}


def law(check: Law) -> Law:
    LAWS[check.__name__] = check
    return check


@law
def reference_gives_ln2(loss: Loss, data: st.DataObject) -> None:
    """Policy equal to the reference: a sigmoid preference loss is ln 2."""
    case = data.draw(cases(loss.takes))
    out, _ = evaluate(loss, replace(case, predictions=case.batch.ref_logprobs))
    assert out.loss.item() == pytest.approx(math.log(2.0))


@law
def common_shift_cancels(loss: Loss, data: st.DataObject) -> None:
    """The same constant on every sequence's log-ratio changes nothing."""
    case = data.draw(cases(loss.takes))
    first = case.batch.loss_mask & (case.batch.loss_mask.cumsum(1) == 1)
    shifted = replace(case, predictions=case.predictions + 0.75 * first)
    one, other = evaluate(loss, case), evaluate(loss, shifted)
    torch.testing.assert_close((one[0].loss, one[1]), (other[0].loss, other[1]))


@law
def gradient_is_the_values(loss: Loss, data: st.DataObject) -> None:
    """The gradient agrees with the value's central difference along a random direction."""
    case = data.draw(cases(loss.takes))
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    way = 1e-6 * torch.randn(case.predictions.shape, generator=random, dtype=torch.float64)
    _, gradient = evaluate(loss, case)
    ahead, _ = evaluate(loss, replace(case, predictions=case.predictions + way))
    behind, _ = evaluate(loss, replace(case, predictions=case.predictions - way))
    difference = (ahead.loss - behind.loss) / 2
    rounding = 4 * torch.finfo(torch.float64).eps * abs(float(ahead.loss.detach()))
    torch.testing.assert_close((gradient * way).sum(), difference, rtol=1e-5, atol=1e-13 + rounding)


@law
def gradient_by_hand(loss: Loss, data: st.DataObject) -> None:
    """A surrogate's gradient is the one derived by hand, in tests/losses/by_hand.py."""
    case = data.draw(cases(loss.takes))
    _, gradient = evaluate(loss, case)
    expected = BY_HAND[type(loss)](loss, case.predictions, case.batch, case.counts)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


@law
def length_cancels(loss: Loss, data: st.DataObject) -> None:
    """Every token twice: the same value, and half of the gradient on each copy."""
    case = data.draw(cases(loss.takes))
    shape = case.batch.token_ids.shape
    columns = {
        f.name: column.repeat_interleave(2, dim=1)
        for f in fields(case.batch)
        if (column := getattr(case.batch, f.name)).shape == shape
    }
    batch = replace(case.batch, lengths=2 * case.batch.lengths, **columns)
    counts = replace(case.counts, tokens=2 * case.counts.tokens)
    twice = Case(case.predictions.repeat_interleave(2, dim=1), batch, counts)
    one, other = evaluate(loss, case), evaluate(loss, twice)
    torch.testing.assert_close(one[0].loss, other[0].loss)
    torch.testing.assert_close(one[1].repeat_interleave(2, dim=1) / 2, other[1])


def on_policy(loss: Loss, data: st.DataObject) -> tuple[LossOutput, Tensor, Tensor, Tensor]:
    """Output and gradient where all logprobs are one policy's, and the advantages with their mean
    (of the loss's own kind) as a function of them."""
    assert isinstance(loss, PolicyGradient)
    case = data.draw(cases(loss.takes))
    now = case.predictions
    batch = replace(case.batch, old_logprobs=now, ref_logprobs=now, rollout_logprobs=now)
    assert not isinstance(batch, PairBatch | LabelBatch)
    advantages = batch.advantages.clone().requires_grad_()
    mean = loss.mean(advantages, batch.loss_mask, case.counts)
    return *evaluate(loss, replace(case, batch=batch)), advantages, mean


@law
def on_policy_gives_minus_mean_advantage(loss: Loss, data: st.DataObject) -> None:
    """One policy everywhere: all ratios are 1, the KL is 0, what is left is -mean(A)."""
    out, _, _, mean = on_policy(loss, data)
    torch.testing.assert_close(out.loss, -mean.detach())


@law
def on_policy_gives_the_policy_gradient(loss: Loss, data: st.DataObject) -> None:
    """One policy everywhere: a token's gradient is -A times its weight in the mean."""
    _, gradient, advantages, mean = on_policy(loss, data)
    (weights,) = torch.autograd.grad(mean, advantages)
    torch.testing.assert_close(gradient, -weights * advantages.detach())


@law
def zero_logits_give_ln2(loss: Loss, data: st.DataObject) -> None:
    """An untrained head knows nothing: ln 2 whatever the targets."""
    case = data.draw(cases(loss.takes))
    out, _ = evaluate(loss, replace(case, predictions=torch.zeros_like(case.predictions)))
    assert out.loss.item() == pytest.approx(math.log(2.0))


def last_tokens(case: Case) -> Tensor:
    """bool [N, L]: of each sequence the last one that is trained."""
    places = torch.arange(case.batch.loss_mask.shape[1])
    last = torch.where(case.batch.loss_mask, places, -1).amax(1)
    return places == last[:, None]


@law
def only_the_last_token_counts(loss: Loss, data: st.DataObject) -> None:
    """Other trained tokens have no part in the value, and no gradient."""
    case = data.draw(cases(loss.takes))
    others = ~last_tokens(case)
    moved = replace(case, predictions=case.predictions - 0.75 * others)
    same(evaluate(loss, case), evaluate(loss, moved))
    assert (evaluate(loss, case)[1][others] == 0.0).all()


@law
def score_shift_changes_nothing(loss: Loss, data: st.DataObject) -> None:
    """Adding a constant to every score of a chain, another one for each chain."""
    case = data.draw(cases(loss.takes))
    shifts = torch.arange(len(case.predictions))[:, None] - 1.5
    moved = replace(case.batch, step_scores=case.batch.step_scores + shifts)
    same(evaluate(loss, case), evaluate(loss, replace(case, batch=moved)))


@law
def equal_scores_give_dpo(loss: Loss, data: st.DataObject) -> None:
    """Equal step scores and weights of mean 1: DPO's gradient, in the margin form its value too."""
    assert isinstance(loss, FullStepDpo)
    case = data.draw(cases(loss.takes))
    level = replace(
        case, batch=replace(case.batch, step_scores=torch.full_like(case.batch.step_scores, 0.3))
    )
    is_dpo(replace(loss, normalise="mean1", scale_by_beta=True, token_rate=0.0), level)


@law
def single_step_gives_dpo(loss: Loss, data: st.DataObject) -> None:
    """One step a completion is the outcome-level loss, even for weights that sum to 1."""
    assert isinstance(loss, FullStepDpo)
    case = data.draw(cases(loss.takes, steps=1))
    is_dpo(replace(loss, softmax_over="step", scale_by_beta=True, token_rate=0.0), case)


def is_dpo(loss: FullStepDpo, case: Case) -> None:
    out, gradient = evaluate(loss, case)
    expected, expected_gradient = evaluate(Dpo(beta=loss.beta), case)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-12)
    if loss.form == "margin":
        torch.testing.assert_close(out.loss, expected.loss, rtol=1e-12, atol=1e-12)
    shared = {name: out.metrics[name] for name in expected.metrics}
    torch.testing.assert_close(shared, dict(expected.metrics))


@law
def single_token_steps_give_the_token_form(loss: Loss, data: st.DataObject) -> None:
    """One token a step: the step-level and the token-level softmax are the same."""
    assert isinstance(loss, FullStepDpo)
    case = data.draw(cases(loss.takes, step_tokens=1))
    by_step = evaluate(replace(loss, softmax_over="step"), case)
    same(by_step, evaluate(replace(loss, softmax_over="token"), case))


DECLARED = [(loss, name) for loss in LOSSES for name in sorted(loss.laws)]


@pytest.mark.parametrize(("loss", "name"), DECLARED, ids=lambda value: repr(value))
@few
@given(data=st.data())
def test_declared_laws_hold(loss: Loss, name: str, data: st.DataObject):
    LAWS[name](loss, data)


def test_every_law_is_declared_by_some_loss():
    assert {name for loss in LOSSES for name in loss.laws} == set(LAWS)


def unchecked(losses: list[Loss]) -> list[str]:
    """Losses that do not say how their gradient is checked."""
    ways = {"gradient_is_the_values", "gradient_by_hand"}
    return [repr(loss) for loss in losses if not ways & loss.laws]


def test_every_loss_says_how_its_gradient_is_checked():
    assert unchecked(LOSSES) == []


def test_a_loss_that_does_not_say_so_is_seen():
    @dataclass(frozen=True, kw_only=True)
    class Careless(Dpo):
        laws = frozenset({"common_shift_cancels"})

    assert unchecked([Careless()]) == [repr(Careless())]


def test_a_wrong_gradient_would_be_seen():
    """`gradient_by_hand` fails for a brake that is left out, `gradient_is_the_values` for a
    surrogate."""

    once = settings(max_examples=10, phases=[Phase.generate], report_multiple_bugs=False)

    @once
    @given(case=cases(PairSamples))
    def without_the_brake(case: Case) -> None:
        _, gradient = evaluate(FullStepDpo(), case)
        braked = FullStepDpo(token_rate=1.0)
        expected = BY_HAND[FullStepDpo](braked, case.predictions, case.batch, case.counts)
        torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=1e-12)

    @once
    @given(data=st.data())
    def of_a_surrogate(data: st.DataObject) -> None:
        gradient_is_the_values(FullStepDpo(beta=2.0), data)

    for check in (without_the_brake, of_a_surrogate):
        with pytest.raises(AssertionError):
            check()


@few
@given(case=cases(PairSamples))
def test_step_dpo_is_dpo_on_the_same_mask(case: Case):
    same(evaluate(StepDpo(beta=0.3), case), evaluate(Dpo(beta=0.3), case))


def test_a_step_weight_that_is_off_would_be_seen():
    """The check of `equal_scores_give_dpo` fails for weights that sum to 1."""

    @settings(max_examples=20)
    @given(case=cases(PairSamples))
    def check(case: Case) -> None:
        assert isinstance(case.batch, PairBatch)
        paired = torch.cat([case.batch.chosen, case.batch.rejected])
        assume((case.batch.step_mask[paired].sum(1) > 2).any())
        level = replace(case.batch, step_scores=torch.zeros_like(case.batch.step_scores))
        with pytest.raises(AssertionError):
            is_dpo(FullStepDpo(normalise="sum1"), replace(case, batch=level))

    check()
