"""The study's own plug-ins and its arithmetic; its runs are the real stack's, and not made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recipes.studies import credit_assignment as study
from tests.builders import make_group, make_rollout


@pytest.mark.parametrize("arm", study.ARMS)
def test_every_arm_is_a_valid_run(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_ARM", arm)
    config = study.config()
    assert (config.prompts_per_iteration, config.iterations) == (64, 12)
    assert config.policy == study.arithmetic("x", **study.ARMS["dpo"]).policy


def test_shuffled_scores_are_the_same_numbers_elsewhere() -> None:
    right = make_rollout("r", [[i] for i in range(10, 18)], outcome=1.0,
                         scores={"prm": list(range(8))})  # fmt: skip
    wrong = make_rollout("w", [[20], [21]], outcome=0.0, scores={"prm": [5, 6]})
    samples = study.Shuffled().samples([make_group(right, wrong)])
    chosen = samples.sequences[samples.pairs[0].chosen]
    assert sorted(chosen.step_scores.tolist()) == list(range(8))
    assert chosen.step_scores.tolist() != list(range(8))
    again = study.Shuffled().samples([make_group(right, wrong)])
    assert np.array_equal(again.sequences[0].step_scores, samples.sequences[0].step_scores)


def test_the_table_worked_by_hand(tmp_path: Path) -> None:
    # dpo ends at 0.5 and 0.7, mean 0.6, s.e. 0.1; grpo at 0.6 and 0.9: differences 0.1 and 0.2,
    # mean 0.15, std 0.070711 / sqrt(2) = 0.05.
    ends = {"dpo-0": 0.5, "dpo-1": 0.7, "grpo-0": 0.6, "grpo-1": 0.9}
    for name, end in ends.items():
        (tmp_path / name).mkdir()
        summary = {"complete": True, "eval_accuracy_start": 0.3, "eval_accuracy_end": end}
        (tmp_path / name / "summary.json").write_text(json.dumps({**summary, "train_seconds": 60}))
    rows = study.table(study.Study(out=str(tmp_path), seeds=2, arms=("dpo", "grpo")))
    assert rows["dpo"]["accuracy"] == pytest.approx(0.6)
    assert rows["dpo"]["standard_error"] == pytest.approx(0.1)
    assert rows["grpo"]["over_dpo"] == pytest.approx(0.15)
    assert rows["grpo"]["over_dpo_standard_error"] == pytest.approx(0.05)
    study.plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_complete_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], **kwargs: object) -> None:
        commands.append(command)

    monkeypatch.setattr(study.subprocess, "run", run)
    for name, complete in {"dpo-0": True, "dpo-1": False}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"complete": complete}))
    study.run_all(study.Study(out=str(tmp_path), seeds=3, arms=("dpo",)))
    assert [command[command.index("--name") + 1] for command in commands] == ["dpo-1", "dpo-2"]
