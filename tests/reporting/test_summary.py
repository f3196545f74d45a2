from __future__ import annotations

from pathlib import Path

import pytest

from rlstep.reporting.summary import plot_accuracy, summarize

RECORDS = [
    {"iteration": 0, "eval/accuracy": 0.2, "eval/problems": 500, "sync/parity_error": 2e-6},
    {"iteration": 1, "rollout/accuracy": 0.3, "time/iteration": 2.5, "sync/parity_error": 5e-6,
     "busy/generator": 0.6, "busy/policy": 0.3},
    {"iteration": 2, "eval/accuracy": 0.4, "eval/problems": 500, "prm/auc": 0.7,
     "train/updates": 2, "rollout/without_signal": 0.25, "rollout/failures": 3},
    {"iteration": 3, "eval/accuracy": 0.6, "eval/accuracy_standard_error": 0.02,
     "eval/problems": 400, "eval/shots": 4.0, "time/iteration": 1.5, "prm/auc": 0.8,
     "train/updates": 1, "rollout/without_signal": 0.75,
     "busy/generator": 0.2, "busy/policy": 0.8},
]  # fmt: skip


def test_a_summary_worked_by_hand():
    assert summarize(RECORDS) == {
        "iterations": 3,
        "eval_accuracy_start": 0.2,
        "eval_accuracy_end": 0.6,
        "eval_problems": 400,
        "eval_shots": 4.0,
        "train_seconds": 4.0,
        "updates": 3,
        "without_signal": 0.5,
        "failures": 3,
        "prm_auc_end": 0.8,
        "max_parity_error": 5e-6,
        # Generators (0.6 * 2.5 + 0.2 * 1.5) / 4, policy (0.3 * 2.5 + 0.8 * 1.5) / 4 = 0.4875.
        "bottleneck": "policy, busy 49% of the time",
    }


def test_what_was_never_measured_is_none():
    assert summarize([]) == {
        "iterations": 0,
        "eval_accuracy_start": None,
        "eval_accuracy_end": None,
        "eval_problems": None,
        "eval_shots": None,
        "train_seconds": 0,
        "updates": 0,
        "without_signal": None,
        "failures": 0,
        "prm_auc_end": None,
        "max_parity_error": None,
        "bottleneck": None,
    }


def read_image(path: Path):
    from matplotlib.image import imread

    return imread(path)[:, :, :3]


def blue(image) -> int:
    """Pixels of the evaluation's curve."""
    return int(((image[:, :, 2] > image[:, :, 0] + 0.3) & (image[:, :, 0] < 0.3)).sum())


@pytest.mark.parametrize("records", [RECORDS, [], RECORDS[1:2], [*RECORDS, {"iteration": 4}]])
def test_the_picture_has_axes_and_the_curve_where_there_is_one(tmp_path: Path, records):
    plot_accuracy(records, tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG\r\n")
    image = read_image(tmp_path / "accuracy.png")
    height, width, _ = image.shape
    assert width >= 900 and height >= 500
    assert 0.80 < (image == 1.0).mean() < 0.995  # mostly paper, but not blank
    plot_accuracy([], tmp_path / "empty.png")
    evaluated = any("eval/accuracy" in record for record in records)
    assert (blue(image) > blue(read_image(tmp_path / "empty.png")) + 200) == evaluated
