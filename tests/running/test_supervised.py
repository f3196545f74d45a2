"""The learner alone, on a Ray of its own: a PRM from labels, and its statistics for AdvPo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlstep.losses.step_label import StepLabelLoss
from rlstep.scoring.step_models.advpo import AdvPo
from tests.actors.learner.learner_kit import make_model
from tests.actors.learner.test_uncertain_learner import config

ROOT = Path(__file__).parents[2]

# In a process of its own: the tests' may hold another Ray.
PROGRAM = """
import sys
from pathlib import Path
from rlstep.losses.step_label import StepLabelLoss
from rlstep.running.supervised import fit, measure
from tests.actors.learner.learner_kit import label_samples
from tests.actors.learner.test_uncertain_learner import config

start, folder = sys.argv[1], Path(sys.argv[2])
metrics = fit(config(start), StepLabelLoss(), [label_samples()] * 3, folder / "prm", report_every=1)
assert metrics["batches"] == 3.0, metrics
prm = config(str(folder / "prm"))
measure(prm, StepLabelLoss(), label_samples(), folder / "statistics.npz")
"""


@pytest.mark.slow
def test_a_prm_is_fitted_and_measured(tmp_path: Path):
    start = make_model(tmp_path / "start")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, start, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("batch ") == 3
    file = tmp_path / "statistics.npz"
    with np.load(file, allow_pickle=False) as statistics:
        assert statistics["paper"].shape == (32, 32) and statistics["paper"].trace() > 0.0
        assert statistics["reference"].shape == (32,)
    learner = config(str(tmp_path / "prm"))
    assert AdvPo(learner=learner, loss=StepLabelLoss(), statistics=str(file)).source == "advpo"
