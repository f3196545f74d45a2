from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rlstep.config import LearnerConfig, ModelConfig
from rlstep.losses.step_label import StepLabelLoss
from rlstep.scoring.step_models.advpo import AdvPo, measure
from rlstep.types import Failure, Floats, LabelSamples, Score, StepScores, TokenIds
from tests.builders import make_rollout, make_sequence

LEARNER = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
ROLLOUT = make_rollout("r", [[11, 12], [13]])
SHORT = make_rollout("s", [[14]])


@pytest.fixture
def model(tmp_path: Path) -> AdvPo:
    """M by differences diag(4, 1), by the paper diag(16, 4), and a reference of (1, 1)."""
    file = tmp_path / "statistics.npz"
    np.savez(
        file,
        paper=np.diag([15.0, 3.0]),
        differences=np.diag([3.0, 0.0]),
        reference=np.ones(2),
    )
    return AdvPo(learner=LEARNER, loss=StepLabelLoss(), statistics=str(file), form="differences")


def rows(*each: tuple[float, float, float]) -> Floats:
    """The logit and the embedding of every step."""
    return np.array(each, dtype=np.float32).reshape(-1, 3)


def logits(score: Score) -> list[float]:
    assert isinstance(score, StepScores)
    return np.log(score.values / (1.0 - score.values)).tolist()


def test_uncertainty_is_carried_over_to_the_probability(model: AdvPo):
    # d = (2, 3) - (1, 1): sqrt(1/4 + 4) = 2.061553; at p = 1/2 times 1/4, at 3/4 times 3/16.
    predictions = rows((0.0, 2.0, 3.0), (math.log(3.0), 2.0, 3.0))
    score = model.read_out(ROLLOUT, predictions, 3)
    assert isinstance(score, StepScores) and score.log_sigma is not None and score.version == 3
    assert score.values.tolist() == pytest.approx([0.5, 0.75])
    sigma = np.exp(score.log_sigma)
    assert sigma.tolist() == pytest.approx([2.061553 / 4, 2.061553 * 3 / 16], rel=1e-5)
    twice = replace(model, scale=2.0).read_out(ROLLOUT, predictions, 3)
    assert isinstance(twice, StepScores) and twice.log_sigma is not None
    np.testing.assert_allclose(np.exp(twice.log_sigma), 2.0 * sigma, rtol=1e-5)


def test_the_papers_form_worked_by_hand(model: AdvPo):
    # M = diag(16, 4). U of e = (2, 3) itself: sqrt(4/16 + 9/4) = 1.581139, times p (1 - p) = 1/4.
    # B = 1/4 is the squared radius. Less the reference (1, 2): L^-1 g = (1/4, 1), length
    # sqrt(17)/4 = 1.030776, so the logit moves by -1/2 of that.
    paper = replace(model, form="paper", radius=0.25)
    score = paper.read_out(SHORT, rows((0.0, 2.0, 3.0)), 0)
    assert isinstance(score, StepScores) and score.log_sigma is not None
    assert np.exp(score.log_sigma).tolist() == pytest.approx([1.581139 / 4], rel=1e-5)
    assert logits(score) == pytest.approx([-1.030776 / 2], abs=1e-5)
    assert AdvPo(learner=LEARNER, loss=StepLabelLoss(), statistics=model.statistics).form == "paper"


def test_the_worst_head_is_one_for_the_whole_batch(model: AdvPo):
    # Less the reference: (0, 1), (0, 2) and (0, 0): g = (0, 1), M^-1 g = (0, 1), B = 1/2:
    # changes -1/2, -1 and 0, whose mean is minus the penalty, -1/2.
    predictions = [rows((0.0, 1, 2), (1.0, 1, 3)), rows((2.0, 1, 1))]
    scores = replace(model, radius=0.5).read_out_all([ROLLOUT, SHORT], predictions, 0)
    assert logits(scores[0]) == pytest.approx([-0.5, 0.0], abs=1e-5)
    assert logits(scores[1]) == pytest.approx([2.0], abs=1e-5)
    plain = model.read_out_all([ROLLOUT, SHORT], predictions, 0)
    assert logits(plain[0]) == pytest.approx([0.0, 1.0], abs=1e-5)


def test_what_is_not_finite_fails_alone(model: AdvPo):
    model = replace(model, radius=0.5)
    spoiled = rows((0.0, math.nan, 2.0), (1.0, 1.0, 3.0))
    good = rows((2.0, 1.0, 4.0))
    failed, kept = model.read_out_all([ROLLOUT, SHORT], [spoiled, good], 7)
    assert failed == Failure(reason="not_finite", detail="advpo version 7")
    assert logits(kept) == logits(model.read_out_all([SHORT], [good], 7)[0])


def test_rollouts_without_steps_have_no_scores(model: AdvPo):
    [score] = model.read_out_all([make_rollout("e", [])], [rows()], 0)
    assert isinstance(score, StepScores) and len(score.values) == 0
    assert model.read_out_all([], [], 0) == []


def test_it_is_not_trained(model: AdvPo):
    assert model.samples([ROLLOUT]).sequences == () and model.reads == frozenset()


class Embeddings:
    """Stands for a learner: the embedding of a token is (token, 1), its output 0."""

    async def embed(
        self, sequences: Sequence[TokenIds], positions: Sequence[NDArray[np.integer]]
    ) -> list[Floats]:
        pairs = zip(sequences, positions, strict=True)
        return [rows(*((0.0, float(ids[p]), 1.0) for p in at)) for ids, at in pairs]


def samples(*targets: list[float], prompts: str) -> LabelSamples:
    """Two one-token steps a sequence, tokens 2 and 3, each labelled."""
    return LabelSamples(
        sequences=tuple(
            make_sequence(str(i), [1, 1], prompt_id=prompt) for i, prompt in enumerate(prompts)
        ),
        targets=tuple(np.array([9.0, *row], dtype=np.float32) for row in targets),
        weights=tuple(np.array([0, 1, 1], dtype=np.float32) for _ in targets),
    )


async def test_measured_over_the_pairs_of_a_problem_worked_by_hand(tmp_path: Path):
    # Problem p: steps 2 (label 1), 3 (0), 2 (1/2), 3 (1/2). Pairs, better over worse: 2 over 3, 2
    # and 3, and 2 and 3 over 3: differences -1, 0, -1, -1, 0 in the first coordinate, squares 3;
    # the better ones are 2, 2, 2, 2, 3: mean 2.2. Problem q: 3 over 2, square 1. Reference 14 / 6.
    made = samples([1.0, 0.0], [0.5, 0.5], [0.0, 1.0], prompts="ppq")
    learner: object = Embeddings()
    await measure(learner, made, tmp_path / "s.npz")  # type: ignore[arg-type]
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        # Both sides of every pair: p has 2 four times as the better, once as the worse, 3 once
        # and four times; q has 3 and 2. Six of each: 6 (4 + 9) = 78, 6 (2 + 3) = 30, and 12.
        assert file["paper"].tolist() == [[78.0, 30.0], [30.0, 12.0]]
        assert file["differences"].tolist() == [[4.0, 0.0], [0.0, 0.0]]
        assert file["reference"].tolist() == pytest.approx([14 / 6, 1.0])


def test_a_head_that_is_not_one_linear_layer_is_refused(model: AdvPo):
    two_token = replace(model.learner, head="two_token")
    with pytest.raises(ValueError, match=r"'two_token'; it must be 'token_class.*' or 'two_label'"):
        replace(model, learner=two_token)


async def test_labels_without_a_difference_are_refused(tmp_path: Path):
    equal = samples([1.0, 1.0], [0.0, 0.0], prompts="pq")
    learner: object = Embeddings()
    with pytest.raises(ValueError, match=r"samples: no problem has two steps with unequal targets"):
        await measure(learner, equal, tmp_path / "s.npz")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ridge": 0.0}, r"AdvPo\)\.ridge is 0.0; it must be above 0"),
        ({"scale": 0.0}, r"AdvPo\)\.scale is 0.0; it must be above 0"),
        ({"radius": -1.0}, r"AdvPo\)\.radius is -1.0; the smallest valid value is 0"),
        ({"statistics": "/nowhere.npz"}, r"statistics is '/nowhere\.npz', and there is no such"),
    ],
)
def test_bad_values_are_refused(model: AdvPo, fields, message: str):
    with pytest.raises(ValueError, match=message):
        replace(model, **fields)
