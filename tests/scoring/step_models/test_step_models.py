"""What step models read out of predictions, and what they are trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstep.advantages.gae import Gae
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.interfaces import StepModel
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dpo import Dpo
from rlstep.losses.implicit_outcome import ImplicitOutcomeLoss
from rlstep.losses.implicit_step import ImplicitStepLoss
from rlstep.losses.step_label import StepLabelLoss
from rlstep.losses.step_likelihood import StepLikelihoodLoss
from rlstep.losses.value import ValueLoss
from rlstep.scoring.step_models.critic import Critic
from rlstep.scoring.step_models.implicit_prm import ImplicitPrm
from rlstep.scoring.step_models.implicit_step_prm import ImplicitStepPrm
from rlstep.scoring.step_models.likelihood_prm import LikelihoodPrm
from rlstep.scoring.step_models.prm import Prm
from rlstep.tensors.labels import Hard
from rlstep.types import Failure, StepScores, TokenScores
from tests.builders import make_counts, make_rollout, make_token_scores

MODEL = ModelConfig(path="/nowhere")
SCALAR = LearnerConfig(model=MODEL, head="token_classification")
LANGUAGE = LearnerConfig(model=MODEL, reference="initial")
PRM = Prm(learner=SCALAR, loss=StepLabelLoss())
CRITIC = Critic(learner=SCALAR, loss=ValueLoss())
IMPLICIT = ImplicitPrm(learner=LANGUAGE, loss=ImplicitOutcomeLoss())
LIKELIHOOD = LikelihoodPrm(learner=LearnerConfig(model=MODEL), loss=StepLikelihoodLoss())
IMPLICIT_STEPS = ImplicitStepPrm(learner=LANGUAGE, loss=ImplicitStepLoss(beta=2.0), beta=2.0)

# The prompt of make_rollout has P tokens; the completion two steps, of 2 and 1 tokens.
ROLLOUT = make_rollout("r", [[11, 12], [13]], outcome=1.0)
P = len(ROLLOUT.prompt.token_ids)
OUTPUTS = np.array([*[9.0] * (P - 1), 0.5, -1.0, 0.0, 2.0], dtype=np.float32)
"""At the prompt's last token 0.5, then one a completion token."""


def test_a_prm_reads_the_sigmoid_at_each_steps_last_token():
    scores = PRM.read_out(ROLLOUT, OUTPUTS, 3)
    assert isinstance(scores, StepScores) and scores.version == 3
    # sigmoid(0) and sigmoid(2) = 0.880797
    assert scores.values.tolist() == pytest.approx([0.5, 0.880797], abs=1e-6)


def test_a_prm_learns_from_counted_steps_alone():
    counted = ROLLOUT.with_scores(monte_carlo=make_counts([4, 0], [3, 0]))
    samples = PRM.samples([counted, ROLLOUT])
    [sequence], [targets], [weights] = samples.sequences, samples.targets, samples.weights
    assert np.flatnonzero(sequence.loss_mask).tolist() == [P + 1]
    assert (targets[P + 1], weights[P + 1]) == (0.75, 4.0)


def test_a_prm_reads_the_counts_through_its_view():
    counted = ROLLOUT.with_scores(monte_carlo=make_counts([4, 4], [3, 0]))
    hard = Prm(learner=SCALAR, loss=StepLabelLoss(), view=Hard())
    [targets], [weights] = (s := hard.samples([counted])).targets, s.weights
    assert targets[P + 1 :].tolist() == [1.0, 0.0] and weights[P + 1 :].tolist() == [1.0, 1.0]


def test_a_critic_reads_the_state_before_each_token():
    tokens = CRITIC.read_out(ROLLOUT, OUTPUTS, 1)
    assert isinstance(tokens, TokenScores) and tokens.values.tolist() == [0.5, -1.0, 0.0]
    by_step = Critic(learner=SCALAR, loss=ValueLoss(), gae=Gae(level="step"))
    steps = by_step.read_out(ROLLOUT, OUTPUTS, 1)
    assert isinstance(steps, StepScores) and steps.values.tolist() == [0.5, 0.0]


def test_a_critic_is_trained_where_it_is_read():
    # lambda 1, gamma 1: every return is the outcome, 1, at the positions P - 1, P and P + 1.
    critic = Critic(learner=SCALAR, loss=ValueLoss(), gae=Gae(lam=1.0))
    scored = ROLLOUT.with_scores(critic=make_token_scores([0.5, -1.0, 0.0]))
    [sequence], [targets] = (s := critic.samples([scored])).sequences, s.targets
    assert np.flatnonzero(sequence.loss_mask).tolist() == [P - 1, P, P + 1]
    assert targets[P - 1 : P + 2].tolist() == [1.0, 1.0, 1.0]


def test_an_implicit_prm_reads_beta_log_ratios():
    scores = IMPLICIT.read_out(ROLLOUT, OUTPUTS, 1)
    assert isinstance(scores, TokenScores)
    assert scores.values.tolist() == pytest.approx([-0.05, 0.0, 0.1])


def test_an_implicit_prm_learns_outcomes_of_whole_rollouts():
    branch = make_rollout("b", [[11, 12], [14]], outcome=0.0, parent="r", inherited=2)
    failed = make_rollout("f", [[11]])
    wrong = make_rollout("w", [[15]], outcome=0.0)
    samples = IMPLICIT.samples([ROLLOUT, branch, failed, wrong])
    assert [s.sequence_id for s in samples.sequences] == ["r", "w"]
    assert [targets.max() for targets in samples.targets] == [1.0, 0.0]
    assert all(
        (s.loss_mask == (w > 0)).all()
        for s, w in zip(samples.sequences, samples.weights, strict=True)
    )


def test_an_implicit_prm_of_steps_reads_the_sigmoid_of_a_steps_log_ratios():
    scores = IMPLICIT_STEPS.read_out(ROLLOUT, OUTPUTS, 1)
    assert isinstance(scores, StepScores) and scores.version == 1
    # beta 2: sigmoid(2 (-1 + 0)) = 0.119203 and sigmoid(2 * 2) = 0.982014.
    assert scores.values.tolist() == pytest.approx([0.119203, 0.982014], abs=1e-6)


def test_an_implicit_prm_of_steps_learns_from_every_token_of_a_labelled_step():
    counted = ROLLOUT.with_scores(monte_carlo=make_counts([4, 0], [3, 0]))
    samples = IMPLICIT_STEPS.samples([counted, ROLLOUT])
    [sequence], [targets], [weights] = samples.sequences, samples.targets, samples.weights
    # Of two tokens, each with half of the step's weight; the last step has no label.
    assert np.flatnonzero(sequence.loss_mask).tolist() == [P, P + 1]
    assert targets[P:].tolist() == [0.75, 0.75, 0.0] and weights[P:].tolist() == [2.0, 2.0, 0.0]
    assert IMPLICIT_STEPS.samples([ROLLOUT]).sequences == ()


@pytest.mark.parametrize(
    "model", [PRM, CRITIC, IMPLICIT, IMPLICIT_STEPS], ids=lambda m: type(m).__name__
)
def test_what_is_not_finite_is_a_failure(model: StepModel):
    spoiled = np.full_like(OUTPUTS, np.nan)
    answer = model.read_out(ROLLOUT, spoiled, 7)
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.detail) == ("not_finite", f"{model.source} version 7")


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Prm, {"learner": LANGUAGE, "loss": StepLabelLoss()}, "must be 'token_classification'"),
        (Prm, {"learner": SCALAR, "loss": Dpo()}, "loss Dpo takes PairSamples, not LabelSamples"),
        (Critic, {"learner": LANGUAGE, "loss": ValueLoss()}, "must be 'token_classification'"),
        (ImplicitPrm, {"learner": SCALAR, "loss": ImplicitOutcomeLoss()}, "be 'language_model'"),
        (
            ImplicitPrm,
            {"learner": LearnerConfig(model=MODEL), "loss": ImplicitOutcomeLoss()},
            "learner.reference is 'iteration'; it must be 'initial'",
        ),
        (
            ImplicitPrm,
            {"learner": LANGUAGE, "loss": ImplicitOutcomeLoss(beta=0.1)},
            "beta is 0.05, but its loss has beta 0.1",
        ),
        (LikelihoodPrm, {"learner": SCALAR, "loss": StepLikelihoodLoss()}, "be 'language_model'"),
        (
            ImplicitStepPrm,
            {"learner": LearnerConfig(model=MODEL), "loss": ImplicitStepLoss()},
            "learner.reference is 'iteration'; it must be 'initial'",
        ),
        (
            ImplicitStepPrm,
            {"learner": LANGUAGE, "loss": ImplicitStepLoss(beta=0.1)},
            "beta is 1.0, but its loss has beta 0.1",
        ),
        (
            ImplicitPrm,
            {"learner": LANGUAGE, "loss": CrossEntropy()},
            "beta is 0.05, but its loss has beta None",
        ),
    ],
)
def test_what_does_not_fit_is_refused(kind: Any, fields: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        kind(**fields)
    assert message in str(caught.value)
