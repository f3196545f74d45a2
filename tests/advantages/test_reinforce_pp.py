from __future__ import annotations

import math

import numpy as np
import pytest

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.reinforce_pp import ReinforcePlusPlus
from rlstep.advantages.whitened import Whitened
from tests.advantages.test_group import columns, last, outcome_group
from tests.builders import make_group, make_prompt, make_rollout


def test_the_batch_is_the_baseline():
    # Outcomes (1, 0) and (1, 1), a token each: mean 3/4, std sqrt(3)/4: 1/sqrt(3) and -sqrt(3).
    groups = [outcome_group(1, 0), outcome_group(1, 1, prompt="q")]
    samples = ReinforcePlusPlus().samples(groups)
    third = 1 / math.sqrt(3)
    assert last(samples) == pytest.approx([third, -math.sqrt(3), third, third])
    assert (samples.groups, samples.groups_without_signal) == (2, 0)


def test_ragged_rollouts_weigh_by_their_trained_tokens():
    # Trained tokens: three of outcome 1, one of outcome 0 (the branch's own): mean 3/4 again.
    group = make_group(
        make_rollout("a", [[11], [12, 13]], outcome=1.0),
        make_rollout("x", [[14]]),
        make_rollout("b", [[11], [15]], outcome=0.0, parent="a", inherited=1),
    )
    samples = ReinforcePlusPlus().samples([group])
    third = 1 / math.sqrt(3)
    assert columns(samples)[0] == pytest.approx([0, 0, third, third, third])
    assert columns(samples)[1] == pytest.approx([0, 0, 0, -math.sqrt(3)])


def test_the_baseline_form_whitens_over_all_groups():
    # Less the group's mean: (1/2, -1/2), (1/4, 1/4, 1/4, -3/4) and (0, 0), all in the statistics:
    # mean 0, variance (2/4 + 3/16 + 9/16) / 8 = 5/32.
    groups = [
        outcome_group(1, 0),
        outcome_group(1, 1, 1, 0, prompt="q"),
        outcome_group(1, 1, prompt="r"),
    ]
    samples = ReinforcePlusPlus(baseline="group").samples(groups)
    expected = np.array([0.5, -0.5, 0.25, 0.25, 0.25, -0.75, 0, 0]) / math.sqrt(5 / 32)
    assert last(samples) == pytest.approx(expected)
    assert (samples.groups, samples.groups_without_signal) == (2, 1)


def test_a_group_at_the_mean_of_graded_outcomes_is_in_the_statistics():
    # Outcomes (1, 0) and (1/2, 1/2): mean 1/2, variance (1/4 + 1/4 + 0 + 0) / 4 = 1/8.
    groups = [outcome_group(1, 0), outcome_group(0.5, 0.5, prompt="q")]
    samples = ReinforcePlusPlus().samples(groups)
    assert last(samples) == pytest.approx([math.sqrt(2), -math.sqrt(2), 0, 0])
    assert (samples.groups, samples.groups_without_signal) == (1, 1)


def test_an_equal_group_is_moved_by_the_batch_s_mean():
    # Tokens 1/2, 1/2, -1/2 of one group and 0 of the other: mean 1/8, second moment 3/16,
    # variance 3/16 - 1/64 = 11/64: (4 - 1) / sqrt(11), (-4 - 1) / sqrt(11) and -1 / sqrt(11).
    group = make_group(
        make_rollout("a", [[11, 12]], outcome=1.0), make_rollout("b", [[13]], outcome=0.0)
    )
    samples = ReinforcePlusPlus(baseline="group").samples([group, outcome_group(1, prompt="q")])
    expected = np.array([3, -5, -1]) / math.sqrt(11)
    assert last(samples) == pytest.approx(expected)
    assert (samples.groups, samples.groups_without_signal) == (2, 0)


def test_the_two_forms_differ():
    groups = [outcome_group(1, 0), outcome_group(1, 1, 1, 0, prompt="q")]
    batch, group = (ReinforcePlusPlus(baseline=b).samples(groups) for b in ("batch", "group"))
    assert last(batch)[0] == last(batch)[2] and last(group)[0] > last(group)[2]


def test_a_batch_of_equal_outcomes_gives_nothing():
    groups = [outcome_group(1, 1), outcome_group(1, prompt="q")]
    samples = ReinforcePlusPlus().samples(groups)
    assert samples.sequences == () and samples.groups_without_signal == 2
    assert ReinforcePlusPlus().samples([]).sequences == ()


def test_whitened_is_the_baseline_form_on_centred_outcomes():
    groups = [outcome_group(1, 0, 0), outcome_group(0, 1, prompt="q")]
    wrapped = Whitened(of=GroupAdvantages(std="none")).samples(groups)
    assert last(wrapped) == last(ReinforcePlusPlus(baseline="group").samples(groups))
    assert Whitened().sources == {"outcome", "critic"}


@pytest.mark.parametrize("baseline", ["batch", "group"])
@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_sources_own_arithmetic_on_graded_ragged_batches(baseline, seed: int):
    """Written a second time, as the authors' trainer has it: a row for every rollout, padded; the
    group's mean taken off; mean and variance of all that the action mask allows."""
    random = np.random.default_rng(seed)
    shape = (int(random.integers(2, 6)), int(random.integers(2, 5)))
    rewards = random.choice([0.0, 0.25, 0.5, 1.0], shape)
    rewards[0] = rewards[0, 0]  # a group of equal outcomes
    rewards[1, :2] = 0.0, 1.0  # and one that differs
    lengths = random.integers(1, 6, shape)
    groups = [
        make_group(
            *(
                make_rollout(f"{p}/{i}", [[9] * n], outcome=float(r), prompt=make_prompt(f"{p}"))
                for i, (r, n) in enumerate(zip(rewards[p], lengths[p], strict=True))
            )
        )
        for p in range(shape[0])
    ]
    mask = np.arange(6) < lengths.reshape(-1, 1)
    shaped = rewards - rewards.mean(1, keepdims=True) if baseline == "group" else rewards
    rows = shaped.reshape(-1, 1) * mask
    mean = rows.sum() / mask.sum()
    variance = (np.square(rows - mean) * mask).sum() / mask.sum()
    expected = (rows - mean) / np.sqrt(variance)

    samples = ReinforcePlusPlus(baseline=baseline).samples(groups)
    assert len(samples.sequences) == rewards.size
    for row, s, kept, wanted in zip(
        samples.advantages, samples.sequences, mask, expected, strict=True
    ):
        np.testing.assert_allclose(row[s.loss_mask], wanted[kept], atol=1e-6)
