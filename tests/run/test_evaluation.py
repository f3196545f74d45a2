"""`rlstep eval` on the real stack by a PRM that a run exported: killed, resumed, compared."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from rlstep.cli import look
from rlstep.reporting.files import read_json
from tests.run.run_kit import finish, make_policy, records, started, train, wait_for_lines

SAMPLES, PROBLEMS = 64, 80


@pytest.mark.slow
def test_killed_and_resumed_by_the_prm_of_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = make_policy(tmp_path / "policy")
    often = ("--evaluation.every", "1", "--evaluation.samples", "4")
    best = ("--evaluation.best", "eval/sampled/accuracy", "--checkpoint-every", "0")
    train(policy, tmp_path, "--name", "trained", "--iterations", "2", *often, *best)
    trained = tmp_path / "trained"
    rows = [row for row in records(trained, "metrics.jsonl") if "eval/accuracy" in row]
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert all(row["eval/sampled/rollouts"] == 8 * 4 for row in rows)
    highest = max(row["eval/sampled/accuracy"] for row in rows)
    first = next(row for row in rows if row["eval/sampled/accuracy"] == highest)
    kept = read_json(trained / "exports" / "best" / "lineage.json")
    assert kept["iteration"] == first["iteration"]
    prm = trained / "exports" / "prm"
    assert 0 < read_json(prm / "learned_from.json")["problems"] <= 8

    options = ("--evaluation.samples", str(SAMPLES), "--task.evaluation", str(PROBLEMS))
    models = ("--step-models.0.learner.model.path", str(prm))
    evaluate = partial(started, policy, tmp_path, *options, *models, verb="eval")
    run = tmp_path / "tiny-eval"
    with evaluate() as process:
        wait_for_lines(process, run / "samples.jsonl", 512)
    there = (run / "samples.jsonl").read_text().splitlines()
    assert len(there) < SAMPLES * PROBLEMS and not (run / "eval.json").exists()
    with evaluate("--resume", "True") as process:
        text = finish(process)
    assert f"{PROBLEMS} held-out problems, {SAMPLES} samples of each" in text
    assert "best-of-k, prm min" in text
    assert (run / "samples.jsonl").read_text().splitlines()[:512] == there[:512]
    assert len(records(run, "samples.jsonl")) == SAMPLES * PROBLEMS
    assert (run / "evaluation.png").exists()
    figures = read_json(run / "eval.json")
    assert figures["models"]["prm"]["learned_from"] == "other problems"
    assert sorted(figures["models"]["prm"]["sha256"]) and figures["samples"] == SAMPLES
    assert not list((run / "log").glob("policy*"))  # no learner of a policy was there

    assert look("compare", ["trained", "tiny-eval", "--run-dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "tiny-eval against trained: 8 problems that both have" in printed
    assert "pass@4" in printed and "maj@4" in printed
