from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.commands.catalog import plugins
from rlstep.interfaces import LabelView
from rlstep.tensors.batching import count
from rlstep.tensors.labels import (
    CorrectOnly,
    EntropyRegularised,
    EverySample,
    Hard,
    LocatedError,
    ProverProgress,
    RelativeProgress,
    Soft,
    Threshold,
    UntilFirstError,
    step_labels,
)
from rlstep.types import Failure
from tests.builders import make_counts, make_group, make_prompt, make_rollout

VIEWS: list[LabelView] = [
    Soft(),
    Hard(),
    Threshold(),
    Threshold(share=0.8),
    EntropyRegularised(),
    EntropyRegularised(eta=-800.0),
    EntropyRegularised(eta=2.0, gamma=0.25),
    RelativeProgress(),
    ProverProgress(),
    UntilFirstError(),
    UntilFirstError(of=Hard(), continuations=1),
    LocatedError(),
]
PER_STEP = [Soft(), Hard(), Threshold(share=0.8), EntropyRegularised(eta=3.0)]
"""Views that look at no other step."""


def read(view: LabelView, n: list[int], k: list[int]) -> tuple[list[float], list[float]]:
    """Targets and weights, from counts that begin with the prompt's."""
    targets, weights = view.labels(np.array(n, dtype=np.int32), np.array(k, dtype=np.int32))
    assert targets.dtype == weights.dtype == np.float32
    return targets.tolist(), weights.tolist()


def test_correct_rollouts_whole_with_weight_one():
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0, parent="b", inherited=1),
        make_rollout("b", [[13]], outcome=0.0),
        make_rollout("c", [[14]], outcome=None),
    )
    other = make_group(make_rollout("d", [[15]], outcome=1.0, prompt=make_prompt("q")))
    samples = CorrectOnly().samples([group, other])
    assert [s.sequence_id for s in samples.sequences] == ["a", "d"]
    assert [w.tolist() for w in samples.weights] == [[0, 0, 1, 1], [0, 0, 1]]
    assert [t.tolist() for t in samples.targets] == [[0, 0, 1, 1], [0, 0, 1]]
    assert count(samples).weight == 3.0


def test_every_sample_is_kept_each_of_its_own_tokens_with_weight_one():
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0, parent="b", inherited=1),
        make_rollout("b", [[13]], outcome=0.0),
        make_rollout("c", [[14], [15]], observed={0: [7]}),
        make_rollout("d", []),
    )
    samples = EverySample().samples([group])
    assert [s.prompt_id for s in samples.sequences] == ["p"] * 3
    assert [w.tolist() for w in samples.weights] == [[0, 0, 0, 1], [0, 0, 1], [0, 0, 1, 0, 1]]
    assert all(
        (s.loss_mask == (w > 0)).all()
        for s, w in zip(samples.sequences, samples.weights, strict=True)
    )
    assert count(samples).weight == 4.0 and EverySample().sources == frozenset()


def test_step_labels_worked_by_hand():
    # Steps of 2, 1, 1 tokens after a prompt of 2: last tokens at 3, 4, 5. Counts 3/8, none, 0/4.
    rollout = make_rollout(
        "a",
        [[11, 12], [13], [14]],
        outcome=0.0,
        scores={"monte_carlo": make_counts([8, 0, 4], [3, 0, 0])},
    )
    samples = step_labels([rollout])
    assert samples.targets[0].tolist() == [0, 0, 0, 0.375, 0, 0]
    assert samples.weights[0].tolist() == [0, 0, 0, 8, 0, 4]
    assert samples.sequences[0].loss_mask.tolist() == [False] * 3 + [True, False, True]
    assert samples.sequences[0].step_index.tolist() == [-1, -1, 0, 0, 1, 2]
    assert count(samples).weight == 12.0


def test_the_prompts_counts_are_those_of_its_rollouts():
    # Of 'q' four independent rollouts have a verdict and two are correct, one of which is
    # truncated: 1 of 4. The step's p is 1/2. With a prover of one sample the progress is 1/4, and
    # the target (1 + 1/4) / 2.
    prompt = make_prompt("q")
    counts = {"monte_carlo": make_counts([2], [1])}
    right = make_rollout("a", [[11]], outcome=1.0, prompt=prompt, scores=counts)
    cut = make_rollout("b", [[12]], outcome=1.0, prompt=prompt)
    cut = replace(cut, completion=replace(cut.completion, finish_reason="length"))
    others = [
        make_rollout("c", [[13]], outcome=0.0, prompt=prompt),
        make_rollout("d", [[14]], outcome=0.0, prompt=prompt),
        make_rollout("e", [[15]], outcome=None, prompt=prompt),
        make_rollout("f", [[11]], outcome=1.0, prompt=prompt, parent="a", inherited=0),
        make_rollout("g", [[16]], outcome=1.0, prompt=make_prompt("other")),
    ]
    samples = step_labels([right, cut, *others], ProverProgress(prover_samples=1))
    assert [s.sequence_id for s in samples.sequences] == ["a"]
    assert samples.targets[0].tolist() == [0, 0, 0.625]


def test_rollouts_without_labels_are_left_out():
    rollouts = [
        make_rollout("a", [[11]], outcome=1.0),
        make_rollout("b", [[11]], scores={"monte_carlo": Failure(reason="generator_lost")}),
        make_rollout("c", [[11], [12]], scores={"monte_carlo": make_counts([0, 0], [0, 0])}),
        make_rollout("d", [[11], [12]], scores={"monte_carlo": make_counts([0, 2], [0, 2])}),
    ]
    samples = step_labels(rollouts)
    assert [s.sequence_id for s in samples.sequences] == ["d"]
    assert step_labels([]).sequences == ()


# --- views ---------------------------------------------------------------------------------------


def test_every_view_is_tested():
    views = {plugin for plugin in plugins("labels") if issubclass(plugin, LabelView)}
    assert views == {type(view) for view in VIEWS}


def test_three_of_eight_worked_by_hand():
    n, k = [8, 8], [4, 3]
    assert read(Soft(), n, k) == ([0.375], [8.0])
    assert read(Hard(), n, k) == ([1.0], [1.0])
    assert read(Threshold(share=0.375), n, k) == ([1.0], [1.0])
    assert read(Threshold(share=0.38), n, k) == ([0.0], [1.0])
    # 3/8 of 4/8 is a ratio of 0.75.
    assert read(RelativeProgress(least=0.75), n, k) == ([1.0], [1.0])
    assert read(RelativeProgress(least=0.76), n, k) == ([0.0], [1.0])


def test_entropy_regularised_worked_by_hand():
    # p = 1/2, eta = ln 3: ln(1/2 + 3/2) / ln 3 = ln 2 / ln 3 = 0.630930.
    targets, weights = read(EntropyRegularised(eta=math.log(3)), [4, 4], [1, 2])
    assert targets == pytest.approx([0.630930], abs=1e-6) and weights == [4.0]
    # Mirrored: eta = -ln 3 gives 1 - 0.630930.
    targets, _ = read(EntropyRegularised(eta=-math.log(3)), [4, 4], [1, 2])
    assert targets == pytest.approx([0.369070], abs=1e-6)


@pytest.mark.parametrize(
    ("eta", "limit"),
    [
        (0.0, [0.0, 0.25, 0.75, 1.0]),
        (1e-7, [0.0, 0.25, 0.75, 1.0]),
        (-1e-7, [0.0, 0.25, 0.75, 1.0]),
        (1e9, [0.0, 1.0, 1.0, 1.0]),
        (math.inf, [0.0, 1.0, 1.0, 1.0]),
        (-1e9, [0.0, 0.0, 0.0, 1.0]),
        (-math.inf, [0.0, 0.0, 0.0, 1.0]),
    ],
)
def test_limits_of_eta(eta: float, limit: list[float]):
    targets, _ = read(EntropyRegularised(eta=eta), [4, 4, 4, 4, 4], [4, 0, 1, 3, 4])
    assert targets == pytest.approx(limit, abs=1e-6)


@given(st.floats(-30, 30), st.integers(1, 16).flatmap(lambda n: st.tuples(st.just(n),
       st.integers(0, n))))  # fmt: skip
def test_entropy_regularised_is_its_formula_and_grows_with_eta(eta: float, counts):
    n, k = counts
    p = k / n
    [target], _ = read(EntropyRegularised(eta=eta), [1, n], [1, k])
    if abs(eta) > 1e-3:
        assert target == pytest.approx(math.log(1 - p + p * math.exp(eta)) / eta, abs=1e-5)
    [more], _ = read(EntropyRegularised(eta=eta + 0.5), [1, n], [1, k])
    assert more >= target - 1e-6


def test_thresholds_are_fractions():
    # 4/5 is 0.8; in floats 3/10 - 0.1 - 0.2 is not 0, and 0.1 * 3 > 0.3.
    assert read(Threshold(share=0.8), [1, 5], [1, 4])[0] == [1.0]
    assert read(Threshold(share=0.1), [1, 30], [1, 3])[0] == [1.0]
    assert read(Threshold(share=0.3), [1, 10], [1, 3])[0] == [1.0]
    # From 5/10 to 4/10 the ratio is exactly 0.8, in floats 0.4 / 0.5 as well; from 7/10 to 56/100
    # it is too, and 0.56 / 0.7 = 0.8000000000000002, while 0.24 / 0.3 = 0.8 - 1e-16 falls short.
    assert read(RelativeProgress(), [10, 10], [5, 4])[0] == [1.0]
    assert read(RelativeProgress(), [10, 100], [7, 56])[0] == [1.0]
    assert read(RelativeProgress(), [10, 100], [3, 24])[0] == [1.0]
    assert read(RelativeProgress(), [10, 100], [3, 23])[0] == [0.0]


def test_relative_progress_ends_with_the_first_zero():
    # p: 1/2, 1/2 (ratio 1), 1/4 (1/2), 1/2 (2), 0 (0), 3/4 (after a 0), 1 (after a 0).
    n, k = [4] * 7, [2, 2, 1, 2, 0, 3, 4]
    assert read(RelativeProgress(), n, k) == ([1, 0, 1, 0, 0, 0], [1] * 6)


def test_relative_progress_from_nothing():
    # Nobody solved the prompt: to solve it from the first step is progress, 0 to 0 is none.
    assert read(RelativeProgress(), [4, 4], [0, 1]) == ([1.0], [1.0])
    assert read(RelativeProgress(), [4, 4], [0, 0]) == ([0.0], [1.0])
    # The step before was not continued: no ratio, unless p is 0 now or was 0 before.
    assert read(RelativeProgress(), [4, 0, 4], [2, 0, 2]) == ([0, 0], [0, 0])
    assert read(RelativeProgress(), [4, 0, 4], [2, 0, 0]) == ([0, 0], [0, 1])
    assert read(RelativeProgress(), [4, 4, 0, 4], [2, 0, 0, 2]) == ([0, 0, 0], [1, 0, 1])


def test_prover_progress_worked_by_hand():
    # K = 2: p 1/2 -> V 3/4, p 3/4 -> V 15/16: A = 3/16, target (1 + 3/16) / 2 = 0.59375. Then down
    # to p 0, V 0: A = -15/16, target 1/32.
    targets, weights = read(ProverProgress(prover_samples=2), [4, 4, 4], [2, 3, 0])
    assert (targets, weights) == ([0.59375, 0.03125], [1.0, 1.0])
    # A prover that always or never solves it makes no progress.
    assert read(ProverProgress(), [4, 4, 4], [4, 4, 4])[0] == [0.5, 0.5]
    assert read(ProverProgress(), [4, 4, 4], [0, 0, 0])[0] == [0.5, 0.5]
    assert read(ProverProgress(), [4, 0, 4], [2, 0, 2]) == ([0, 0], [0, 0])


def test_progress_adds_up_to_the_whole():
    targets, _ = read(ProverProgress(prover_samples=3), [8, 8, 8, 8], [2, 5, 1, 8])
    # V from 1 - (3/4)^3 = 0.578125 to 1.
    assert sum(2 * t - 1 for t in targets) == pytest.approx(1 - 0.578125)


def test_until_the_first_error():
    # The rollout's own failure (n = 1) is no error; the third step, where all of 4 failed, is one.
    n, k = [4, 4, 1, 4, 4, 1], [2, 2, 0, 0, 3, 1]
    assert read(UntilFirstError(), n, k) == ([0.5, 0, 0, 0, 0], [4, 1, 4, 0, 0])
    assert read(UntilFirstError(of=Hard()), n, k) == ([1, 0, 0, 0, 0], [1, 1, 1, 0, 0])
    alone = UntilFirstError(continuations=1)
    assert read(alone, n, k) == ([0.5, 0, 0, 0, 0], [4, 1, 0, 0, 0])


def test_what_a_search_located_by_hand():
    prompt = ([4], [1])
    # Of ten steps 4 and 6 are high, 7 is low, the last is the verdict: seven right, one wrong.
    n, k = [0, 0, 0, 0, 8, 0, 8, 8, 0, 1], [0, 0, 0, 0, 8, 0, 7, 1, 0, 0]
    found = read(LocatedError(), prompt[0] + n, prompt[1] + k)
    assert found == ([1] * 7 + [0] * 3, [1] * 8 + [0] * 2)
    # A wrong rollout that nobody searched says nothing, a correct one everything.
    assert read(LocatedError(), [4, 0, 0, 0, 1], [1, 0, 0, 0, 0]) == ([0] * 4, [0] * 4)
    assert read(LocatedError(), [4, 0, 0, 0, 1], [1, 0, 0, 0, 1]) == ([1] * 4, [1] * 4)
    # A search that ended early: high until the second step, the third never asked for.
    assert read(LocatedError(), [4, 0, 2, 0, 1], [1, 0, 2, 0, 0]) == ([1, 1, 0, 0], [1, 1, 0, 0])
    # All but the last step high: the error is in the last. All low: in the first.
    assert read(LocatedError(), [4, 2, 2, 1], [1, 2, 2, 0]) == ([1, 1, 0], [1, 1, 1])
    assert read(LocatedError(), [4, 2, 2, 1], [1, 0, 0, 0]) == ([0, 0, 0], [1, 0, 0])
    assert read(LocatedError(threshold=0.8), [1, 5, 1], [1, 4, 0]) == ([1, 0], [1, 1])
    with pytest.raises(ValueError, match=r"view\.threshold"):
        LocatedError(threshold=1.5)


def test_steps_after_the_first_error_are_masked():
    counts = {"monte_carlo": make_counts([4, 4, 4], [2, 0, 3])}
    [sequence] = step_labels(
        [make_rollout("a", [[11], [12], [13]], outcome=0.0, scores=counts)], UntilFirstError()
    ).sequences
    assert sequence.loss_mask.tolist() == [False, False, True, True, False]


COUNTS = st.lists(
    st.integers(0, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("view", VIEWS, ids=repr)
@settings(max_examples=25)
@given(COUNTS)
def test_targets_are_probabilities_and_nothing_comes_of_nothing(view: LabelView, counts):
    n, k = ([pair[i] for pair in counts] for i in (0, 1))
    targets, weights = read(view, n, k)
    assert len(targets) == len(weights) == len(n) - 1
    assert all(0.0 <= target <= 1.0 for target in targets)
    assert all(weight >= 0.0 for weight in weights)
    if not isinstance(view, LocatedError):  # which says of steps that right ones come after them
        assert all(w == 0.0 for w, drawn in zip(weights, n[1:], strict=True) if not drawn)
    assert all(target == 0.0 for target, w in zip(targets, weights, strict=True) if not w)


@pytest.mark.parametrize("view", VIEWS, ids=repr)
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_one_more_correct_continuation_never_lowers_a_target(view: LabelView, counts):
    n, k = counts
    [less], _ = read(view, [4, n], [2, k])
    [more], _ = read(view, [4, n], [2, k + 1])
    assert less <= more


@pytest.mark.parametrize("view", PER_STEP, ids=repr)
@settings(max_examples=25)
@given(COUNTS, st.randoms())
def test_permuting_steps_permutes_labels(view: LabelView, counts, random: Any):
    order = random.sample(range(1, len(counts)), len(counts) - 1)
    n, k = ([pair[i] for pair in counts] for i in (0, 1))
    targets, weights = read(view, n, k)
    moved = read(view, [n[0], *(n[i] for i in order)], [k[0], *(k[i] for i in order)])
    assert moved == ([targets[i - 1] for i in order], [weights[i - 1] for i in order])


def test_counts_over_int32_do_not_overflow():
    many = 50_000
    assert read(RelativeProgress(), [many, many], [many, many - 1])[0] == [1.0]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Threshold, {"share": 0.0}, "view.share is 0.0; it must be above 0"),
        (Threshold, {"share": 1.5}, "view.share is 1.5; the largest valid value is 1.0"),
        (EntropyRegularised, {"eta": math.nan}, "view.eta is nan"),
        (RelativeProgress, {"least": 0}, "view.least is 0; it must be above 0"),
        (
            RelativeProgress,
            {"least": math.inf},
            "view.least is inf; the largest valid value is 1.0",
        ),
        (ProverProgress, {"prover_samples": 0}, "smallest valid value is 1"),
        (UntilFirstError, {"continuations": 0}, "smallest valid value is 1"),
    ],
)
def test_bad_fields(kind: Any, fields: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        kind(**fields)
    assert message in str(caught.value)


# --- visits --------------------------------------------------------------------------------------


def read_visits(view: LabelView, n: list[list[int]], k: list[list[int]]) -> list[float]:
    """Targets, from the counts of each visit."""
    targets, weights = view.labels_of_visits(np.array(n, np.int32), np.array(k, np.int32))
    assert targets.dtype == weights.dtype == np.float32
    assert weights.tolist() == np.sum(n, 0)[1:].tolist()
    return targets.tolist()


def test_a_running_soft_value_by_hand():
    # eta = ln 3, weights 1 and 3. Visits of 2, 2, 1 continuations with 1, 2, 0 correct: means 2, 3,
    # 1. With gamma 1/2: u = 2, 2.5, 1.75. Value ln 1.75 / ln 3. Pooled: 3 of 5, (2 + 9)/5 = 2.2.
    n, k = [[4, 2], [0, 2], [0, 1]], [[2, 1], [0, 2], [0, 0]]
    eta = math.log(3.0)
    running = read_visits(EntropyRegularised(eta=eta, gamma=0.5), n, k)
    assert running == pytest.approx([math.log(1.75) / eta], abs=1e-6)
    assert read_visits(EntropyRegularised(eta=eta), n, k) == pytest.approx(
        [math.log(2.2) / eta], abs=1e-6
    )
    last = read_visits(EntropyRegularised(eta=eta, gamma=1.0), n, k)
    assert last == pytest.approx([0.0], abs=1e-6)  # the last visit alone
    # Without eta it is the running mean of p: 1/2, 3/4, 3/8.
    none = read_visits(EntropyRegularised(eta=0.0, gamma=0.5), n, k)
    assert none == pytest.approx([0.375], abs=1e-5)


def test_a_visit_without_continuations_changes_nothing():
    view = EntropyRegularised(gamma=0.5)
    seen = read_visits(view, [[0, 2, 0], [0, 4, 0]], [[0, 1, 0], [0, 4, 0]])
    gaps = [[0, 2, 0], [0, 0, 0], [0, 4, 0]], [[0, 1, 0], [0, 0, 0], [0, 4, 0]]
    assert read_visits(view, *gaps) == seen and seen[1] == 0.0


@settings(max_examples=20)
@given(st.integers(1, 8), st.data(), st.floats(-30, 30), st.floats(0.01, 1.0))
def test_one_visit_is_the_plain_value(n: int, data: st.DataObject, eta: float, gamma: float):
    k = data.draw(st.integers(0, n))
    counts = [[0, n]], [[0, k]]
    running = read_visits(EntropyRegularised(eta=eta, gamma=gamma), *counts)
    assert running == pytest.approx(read_visits(EntropyRegularised(eta=eta), *counts), abs=2e-6)
    assert 0.0 <= running[0] <= 1.0


@pytest.mark.parametrize("view", [v for v in VIEWS if not getattr(v, "gamma", 0)], ids=repr)
def test_other_views_read_all_visits_together(view: LabelView):
    n, k = np.array([[4, 2, 3], [0, 1, 0]], np.int32), np.array([[2, 1, 0], [0, 1, 0]], np.int32)
    together = view.labels(n.sum(0, dtype=np.int32), k.sum(0, dtype=np.int32))
    for one, other in zip(view.labels_of_visits(n, k), together, strict=True):
        assert one.tolist() == other.tolist()


def test_visits_reach_the_samples():
    counts = replace(
        make_counts([3, 1], [2, 0]),
        visits=np.array([[[1, 1], [2, 0]], [[0, 0], [2, 0]]], np.int32),
    )
    rollout = make_rollout("a", [[11], [12]], outcome=0.0, scores={"monte_carlo": counts})
    view = UntilFirstError(of=EntropyRegularised(eta=math.log(3.0), gamma=0.5), continuations=1)
    (targets,) = step_labels([rollout], view).targets
    # Of the first step means 1 and 3, u = 2: ln 2 / ln 3 = 0.63093. Of the second 0.
    assert targets.tolist() == pytest.approx([0, 0, 0.63093, 0], abs=1e-5)


def test_bad_running_values():
    with pytest.raises(ValueError, match=r"view\.gamma is 2\.0; the largest valid value is 1\.0"):
        EntropyRegularised(gamma=2.0)
    with pytest.raises(ValueError, match=r"view\.eta \(with gamma\) is inf; the largest valid"):
        EntropyRegularised(gamma=0.5, eta=math.inf)
