from __future__ import annotations

import numpy as np
import pytest

from rlstep.config import LearnerConfig, ModelConfig
from rlstep.losses.step_label import StepLabelLoss
from rlstep.scoring.step_models.bagged_prm import BaggedPrm
from rlstep.scoring.step_models.prm import Prm
from rlstep.types import Rollout
from tests.builders import make_counts, make_prompt, make_rollout

LEARNER = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
NAMES = [f"p{i}" for i in range(400)]


def member(source: str) -> BaggedPrm:
    return BaggedPrm(learner=LEARNER, loss=StepLabelLoss(), source=source)


def rollout(prompt_id: str, name: str = "0") -> Rollout:
    counts = {"monte_carlo": make_counts([4, 2], [1, 2])}
    return make_rollout(
        f"{prompt_id}/{name}", [[11], [12]], scores=counts, prompt=make_prompt(prompt_id)
    )


def counted(source: str, rollouts: list[Rollout]) -> dict[str, float]:
    """How often each sequence counts: its weights, over the plain ones (4 and 2)."""
    samples = member(source).samples(rollouts)
    for weights in samples.weights:
        assert weights[-2] == 2.0 * weights[-1] > 0.0 and not weights[:-2].any()
    return {
        s.sequence_id: weights[-1] / 2.0
        for s, weights in zip(samples.sequences, samples.weights, strict=True)
    }


def test_problems_are_counted_as_in_a_bootstrap():
    times = counted("a", [rollout(name) for name in NAMES])
    # Poisson(1): a share e^-1 = 0.368 is left out (std of 400 draws 0.024), the mean is 1 (0.05).
    assert 1.0 - len(times) / 400 == pytest.approx(0.368, abs=0.1)
    assert sum(times.values()) / 400 == pytest.approx(1.0, abs=0.2)
    assert set(times.values()) >= {1.0, 2.0, 3.0}


def test_a_problem_counts_alike_in_all_its_rollouts_and_iterations():
    both = counted("a", [rollout(name, r) for name in NAMES[:20] for r in "01"])
    for name in NAMES[:20]:
        assert both.get(f"{name}/0") == both.get(f"{name}/1")
    assert counted("a", [rollout(n) for n in NAMES[10:20]]).items() <= both.items()


def test_members_see_different_problems():
    one, other = (set(counted(source, [rollout(n) for n in NAMES])) for source in ("a", "b"))
    assert len(one - other) > 50 and len(other - one) > 50


def test_targets_are_those_of_the_prm():
    plain = Prm(learner=LEARNER, loss=StepLabelLoss()).samples([rollout(n) for n in NAMES[:9]])
    by_id = dict(zip((s.sequence_id for s in plain.sequences), plain.targets, strict=True))
    bagged = member("a").samples([rollout(n) for n in NAMES[:9]])
    for s, targets in zip(bagged.sequences, bagged.targets, strict=True):
        np.testing.assert_array_equal(targets, by_id[s.sequence_id])
