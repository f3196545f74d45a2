"""A whole run whose updates are lost in bfloat16 says so; the same in float32 does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.run_kit import finish, make_policy, records, started

LOOKING = (
    *("--policy.statistics-every", "1", "--policy.optimizer.learning-rate", "5e-7"),
    *("--iterations", "2", "--generator.parity-tolerance", "0.5"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "dead"), [("bfloat16", True), ("float32", False)])
def test_a_dead_learner_raises_its_alarm(tmp_path: Path, dtype: str, dead: bool):
    policy = make_policy(tmp_path / "policy")
    types = ("--policy.model.dtype", dtype, "--generator.dtype", dtype, "--name", dtype)
    with started(policy, tmp_path, *types, *LOOKING) as process:
        output = finish(process)
    trained = [r for r in records(tmp_path / dtype, "metrics.jsonl") if "train/updates" in r]
    assert len(trained) == 2 and all(row["train/updates"] > 0 for row in trained)
    assert [row["alarm/unmoved"] for row in trained] == [float(dead)] * 2
    assert ("the learner is dead" in output) is dead
    assert all((row["weights/unmoved"] > 0.95) is dead for row in trained)
    assert {"weights/std/0", "displacement/chosen_fell"} <= trained[0].keys()
    page = (tmp_path / dtype / "report.html").read_text()
    assert "Weights exactly as at the last look" in page
    assert 'name">unmoved' in page or "<code>unmoved</code>" in page
