"""Whole runs of which a generator or a scorer is killed on the way: nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.run.run_kit import (
    descendants,
    finish,
    make_policy,
    records,
    started,
    wait_for_iteration,
)

ACTORS = {
    "generator": "ray::GeneratorWorker",
    "scorer": "ray::ScorerWorker",
    "learner": "ray::PublishingLearner",
}


def actors(process: int, role: str) -> list[psutil.Process]:
    """The role's processes below a run's."""
    return [p for p in descendants(process) if " ".join(p.cmdline()).startswith(ACTORS[role])]


@pytest.mark.slow
@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("role", ["generator", "scorer"])
def test_a_role_that_is_killed_costs_a_run_no_rollout(
    tmp_path: Path, role: str, replicas: int, lag: int
) -> None:
    run = tmp_path / "runs" / "killed"
    arguments = ("--max-policy-lag", str(lag), f"--{role}.replicas", str(replicas))
    with started(
        make_policy(tmp_path / "policy"), run.parent, "--name", run.name, *arguments
    ) as process:
        wait_for_iteration(process, run, 1)
        alive = actors(process.pid, role)
        assert len(alive) == replicas
        alive[0].kill()
        printed = finish(process)
    assert f"{role} " in printed and "is lost" in printed
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"] and summary["generators_recreated"] == (role == "generator")
    trained = [r for r in records(run, "metrics.jsonl") if "rollout/groups" in r]
    assert [r["iteration"] for r in trained] == [1, 2, 3, 4]
    assert all(r["rollout/rollouts"] == 16 and r["rollout/failures"] == 0 for r in trained)


@pytest.mark.slow
@pytest.mark.parametrize("lag", [0, 1])
def test_a_learner_that_is_killed_is_started_again_from_the_newest_checkpoint(
    tmp_path: Path, lag: int
) -> None:
    """With the generators that there are; at lag 0 the figures are those of a run that nothing
    happened to."""
    policy = make_policy(tmp_path / "policy")
    found = {}
    for name in ("whole", "killed"):
        run = tmp_path / "runs" / name
        arguments = ("--max-policy-lag", str(lag), "--checkpoint-every", "1")
        with started(policy, run.parent, "--name", name, *arguments) as process:
            if name == "killed":
                wait_for_iteration(process, run, 2)
                policy_and_prm = actors(process.pid, "learner")
                assert len(policy_and_prm) == 2
                policy_and_prm[lag].kill()
            printed = finish(process)
        found[name] = [r for r in records(run, "metrics.jsonl") if "rollout/groups" in r]
        summary = json.loads((run / "summary.json").read_text())
        assert summary["complete"] and not summary["generators_recreated"]
    assert "all learners are started again from iteration" in printed
    assert [row["iteration"] for row in found["killed"]] == [1, 2, 3, 4]
    if not lag:
        for one, other in zip(*found.values(), strict=True):
            for key in ("train/loss", "rollout/accuracy", "rollout/sampled_total"):
                assert one[key] == other[key], (one["iteration"], key)
