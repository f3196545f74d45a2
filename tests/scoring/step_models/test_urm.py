from __future__ import annotations

import math

import numpy as np
import pytest

from rlstep.config import LearnerConfig, ModelConfig
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.gaussian_label import GaussianLabelLoss
from rlstep.losses.step_label import StepLabelLoss
from rlstep.losses.value import ValueLoss
from rlstep.scoring.step_models.critic import Critic
from rlstep.scoring.step_models.prm import Prm
from rlstep.scoring.step_models.urm import Urm
from rlstep.types import Failure, StepScores
from tests.builders import make_counts, make_rollout

SCALAR = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
URM = Urm(learner=SCALAR, loss=GaussianLabelLoss())

# A prompt of 2 tokens; the completion two steps, of 2 and 1 tokens: read at 3 and 4.
ROLLOUT = make_rollout("r", [[11, 12], [13]], outcome=1.0)
OUTPUTS = np.array([(9, 9), (9, 9), (9, 9), (0, -2), (math.log(3), 0.5)], dtype=np.float32)


def test_means_and_log_sigmas_at_each_steps_last_token():
    scores = URM.read_out(ROLLOUT, OUTPUTS, 3)
    assert isinstance(scores, StepScores) and scores.version == 3
    assert scores.log_sigma is not None
    assert scores.values.tolist() == pytest.approx([0.5, 0.75])
    assert scores.log_sigma.tolist() == [-2.0, 0.5]  # not sigma
    assert scores.values.dtype == scores.log_sigma.dtype == np.float32


def test_the_same_outputs_give_the_same_scores():
    """Nothing is drawn where scores are read."""
    one, other = (URM.read_out(ROLLOUT, OUTPUTS, 3) for _ in range(2))
    assert isinstance(one, StepScores) and isinstance(other, StepScores)
    assert one.values.tolist() == other.values.tolist()


def test_a_rollout_without_steps_has_no_scores():
    scores = URM.read_out(make_rollout("e", []), OUTPUTS[:2], 0)
    assert isinstance(scores, StepScores) and len(scores.values) == 0


@pytest.mark.parametrize("column", [0, 1])
def test_what_is_not_finite_is_a_failure(column: int):
    spoiled = OUTPUTS.copy()
    spoiled[4, column] = np.nan
    answer = URM.read_out(ROLLOUT, spoiled, 7)
    assert isinstance(answer, Failure)
    assert (answer.reason, answer.detail) == ("not_finite", "urm version 7")


def test_it_learns_the_labels_of_the_prm():
    counted = ROLLOUT.with_scores(monte_carlo=make_counts([4, 0], [3, 0]))
    prm = Prm(learner=SCALAR, loss=StepLabelLoss()).samples([counted])
    samples = URM.samples([counted])
    assert [t.tolist() for t in samples.targets] == [t.tolist() for t in prm.targets]
    assert [w.tolist() for w in samples.weights] == [w.tolist() for w in prm.weights]


@pytest.mark.parametrize(
    ("kind", "loss", "message"),
    [
        (Urm, StepLabelLoss(), r"StepLabelLoss is for a head of 1 outputs; this model reads 2"),
        (Prm, GaussianLabelLoss(), r"GaussianLabelLoss is for a head of 2 outputs; .* reads 1"),
        (
            Prm,
            ValueLoss(),
            r"ValueLoss is not for the logit of a probability, and this model",
        ),
        (Prm, CrossEntropy(), r"CrossEntropy is of a policy's logprobs"),
        (Critic, StepLabelLoss(), r"StepLabelLoss is for the logit of a probability, and this"),
        (Critic, GaussianLabelLoss(), r"a head of 2 outputs; this model reads 1"),
    ],
)
def test_a_loss_for_another_head_is_refused(kind, loss, message: str):
    with pytest.raises(ValueError, match=message):
        kind(learner=SCALAR, loss=loss)
    assert Critic(learner=SCALAR, loss=ValueLoss()).loss.outputs == 1


def test_a_cadence_of_0_is_refused():
    with pytest.raises(ValueError, match=r"Urm\)\.every is 0; the smallest valid value is 1"):
        Urm(learner=SCALAR, loss=GaussianLabelLoss(), every=0)


def test_a_language_model_is_refused():
    with pytest.raises(ValueError, match=r"Urm\)\.learner\.head .* must be 'token_classification'"):
        Urm(learner=LearnerConfig(model=SCALAR.model), loss=GaussianLabelLoss())
