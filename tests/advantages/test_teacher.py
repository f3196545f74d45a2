"""Advantages from a teacher's scores: by hand, and as the gradients of their KLs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.mixture import Mixture
from rlstep.advantages.teacher import TeacherAdvantages
from rlstep.types import Failure, Rollout, TokenScores
from tests.builders import make_group, make_rollout, make_step_scores, make_token_scores


def scored(name: str, values: list[float], outcome: float | None = 1.0) -> Rollout:
    """Two steps, of 2 and 1 tokens."""
    scores = {"teacher": make_token_scores(values)}
    return make_rollout(name, [[11, 12], [13]], outcome=outcome, scores=scores)


def column(builder: TeacherAdvantages, rollout: Rollout) -> list[float]:
    [[(_, values)]] = builder.advantages([make_group(rollout)])
    return values.tolist()


def test_each_token_by_hand():
    rollout = scored("a", [-0.5, 1.5, -4.0])
    assert column(TeacherAdvantages(), rollout) == [-0.5, 1.5, -4.0]
    assert column(TeacherAdvantages(gamma=1.0), rollout) == [-3.0, -2.5, -4.0]
    # 1/2: -4; 1.5 - 2 = -0.5; -0.5 - 0.25 = -0.75
    assert column(TeacherAdvantages(gamma=0.5), rollout) == [-0.75, -0.5, -4.0]


def test_each_step_by_hand():
    steps = {"teacher": make_step_scores([0.5, -4.0])}
    rollout = make_rollout("a", [[11, 12], [13]], scores=steps)
    assert column(TeacherAdvantages(), rollout) == [0.5, 0.5, -4.0]
    assert column(TeacherAdvantages(gamma=1.0), rollout) == [-3.5, -3.5, -4.0]


def test_what_was_observed_is_no_action():
    scores = {"teacher": make_token_scores([0.0, -0.5, 1.5, 0.0, 0.0, -4.0])}
    seen = {-1: [7], 0: [8, 9]}
    talk = make_rollout("t", [[11, 12], [13]], scores=scores, observed=seen)
    # An observed token is no step of time: -4 counts half at the token before the observation.
    assert column(TeacherAdvantages(gamma=0.5), talk) == [0.0, -0.75, -0.5, 0.0, 0.0, -4.0]


def test_one_wrong_sample_teaches():
    """Groups have no part in it: one sample is enough, and so are samples that are all wrong."""
    samples = TeacherAdvantages().samples([make_group(scored("a", [-0.5, 1.5, -4.0], 0.0))])
    assert samples.groups == 1 and samples.advantages[0][2:].tolist() == [-0.5, 1.5, -4.0]


def test_a_teacher_that_agrees_gives_no_signal():
    samples = TeacherAdvantages(gamma=1.0).samples([make_group(scored("a", [0.0, 0.0, 0.0]))])
    assert samples.sequences == () and samples.groups_without_signal == 1


def test_a_failed_score_is_left_out():
    failed = scored("b", [1.0, 1.0, 1.0]).with_scores(teacher=Failure(reason="timeout"))
    samples = TeacherAdvantages().samples([make_group(scored("a", [1.0, 0.0, 0.0]), failed)])
    assert [s.sequence_id for s in samples.sequences] == ["a"]


def test_mixed_with_outcome_advantages_by_hand():
    group = make_group(scored("a", [-1.0, 0.0, 2.0], 1.0), scored("b", [0.5, 0.5, -3.0], 0.0))
    mixture = Mixture(
        outcome=GroupAdvantages(), process=TeacherAdvantages(), process_coefficient=0.1
    )
    assert mixture.sources == {"outcome", "teacher"}
    samples = mixture.samples([group])
    # Outcomes 1 and 0: mean 1/2, std 1/2, so +1 and -1.
    assert samples.advantages[0][2:].tolist() == pytest.approx([0.9, 1.0, 1.2])
    assert samples.advantages[1][2:].tolist() == pytest.approx([-0.95, -0.95, -1.3])


# --- what the policy gradient is the gradient of -------------------------------------------------


def kls(logits: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Of all completions of two tokens from {0, 1}; logits [3, 2] after nothing, 0 and 1.

    KL of whole completions; and the sum over tokens of KL given a prefix, drawn from a copy of the
    policy that is held fixed.
    """
    p, q = logits.softmax(-1), teacher.softmax(-1)
    first, *second = (one * (one / other).log() for one, other in zip(p, q, strict=True))
    after = torch.stack([row.sum() for row in second])
    return first.sum() + (p[0] * after).sum(), first.sum() + (p[0].detach() * after).sum()


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_policy_gradient_is_that_of_the_reverse_kl(gamma: float):
    """Over every completion by its probability, with nothing drawn: -E sum_t A_t d log p(t)."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, dtype=torch.float64, generator=random).requires_grad_()
    teacher = torch.randn(3, 2, dtype=torch.float64, generator=random)
    logprobs, others = logits.log_softmax(-1), teacher.log_softmax(-1)
    surrogate = torch.zeros((), dtype=torch.float64)
    for first, second in itertools.product(range(2), range(2)):
        own = torch.stack([logprobs[0, first], logprobs[1 + first, second]])
        theirs = torch.stack([others[0, first], others[1 + first, second]])
        values = (theirs - own).detach().numpy()
        score = TokenScores(values=values, version=0)
        rollout = make_rollout("r", [[1], [2]], scores={"teacher": score})
        advantages = column(TeacherAdvantages(gamma=gamma), rollout)
        chance = own.detach().sum().exp()
        surrogate = surrogate - chance * (own * torch.tensor(advantages)).sum()
    whole, by_token = kls(logits, teacher)
    expected = torch.autograd.grad(whole if gamma else by_token, logits, retain_graph=True)
    found = torch.autograd.grad(surrogate, logits)
    torch.testing.assert_close(found, expected)
    other = torch.autograd.grad(by_token if gamma else whole, logits)
    assert not torch.allclose(found[0], other[0], atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": ""}, "advantages.source is ''; name the teacher's scores"),
        ({"gamma": 1.5}, "advantages.gamma is 1.5; the largest valid value is 1.0"),
        ({"gamma": -0.1}, "advantages.gamma is -0.1; the smallest valid value is 0.0"),
    ],
)
def test_bad_values_are_refused(fields: dict, message: str):
    with pytest.raises(ValueError) as caught:
        TeacherAdvantages(**fields)
    assert message in str(caught.value)


def test_scores_of_whole_rollouts_are_refused():
    rollout = make_rollout("a", [[11, 12], [13]], outcome=1.0)
    with pytest.raises(TypeError, match="the scores of 'outcome' are OutcomeScore"):
        TeacherAdvantages(source="outcome").advantages([make_group(rollout)])


def test_a_branch_is_credited_for_its_own_tokens():
    branch = replace(scored("a", [-0.5, 1.5, -4.0]), parent="r", inherited=2)
    [advantages] = TeacherAdvantages(gamma=1.0).samples([make_group(branch)]).advantages
    np.testing.assert_array_equal(advantages, [0, 0, 0, 0, -4.0])
