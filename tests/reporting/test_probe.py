from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlstep.reporting.probe import read_probe, write_probe
from rlstep.types import Failure, Rollout, Sampling
from tests.builders import make_prompt, make_rollout


def probe() -> list[Rollout]:
    p, q = make_prompt("p"), make_prompt("q")
    one = make_rollout(
        "prm-probe0/p/0",
        [[11, 12], [13]],
        outcome=1.0,
        prompt=p,
        scores={"prm": [0.1, 1 / 3], "critic": [0.0, 0.0]},
        versions=[(3, 0, 1), (4, 1, 3)],
    )
    sampling = Sampling(max_tokens=7, stop=("#",), stop_token_ids=(5,))
    one = replace(one, sampling=sampling, seed=2**63 - 1)
    completion = replace(one.completion, text="größer\u2028\n#", stop_reason="#")
    failed = {"prm": Failure(reason="not_finite", detail="prm version 1")}
    return [
        replace(one, completion=completion),
        make_rollout("prm-probe0/q/0", [[14]], prompt=q, scores=failed),
        make_rollout("prm-probe0/q/1", [], outcome=0.0, prompt=q, scores={"prm": []}),
    ]


def test_rollouts_come_back_bit_by_bit(tmp_path: Path):
    written, path = probe(), tmp_path / "probe.jsonl"
    write_probe(path, written)
    read = read_probe(path, [make_prompt("q"), make_prompt("p"), make_prompt("other")])
    for one, other in zip(written, read, strict=True):
        for name in ("rollout_id", "steps", "sample_index", "iteration", "seed", "sampling"):
            assert getattr(one, name) == getattr(other, name)
        assert one.prompt.prompt_id == other.prompt.prompt_id
        for name in ("token_ids", "logprobs", "ends"):
            a, b = getattr(one.completion, name), getattr(other.completion, name)
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for name in ("text", "finish_reason", "stop_reason", "versions"):
            assert getattr(one.completion, name) == getattr(other.completion, name)
        assert one.scores["outcome"] == other.scores["outcome"]
        assert set(other.scores) == {"outcome", "prm"}
    first = read[0].step_scores("prm")
    assert (
        first is not None
        and first.values.tobytes() == np.array([0.1, 1 / 3], dtype=np.float32).tobytes()
    )
    assert read[1].scores["prm"] == written[1].scores["prm"]


def test_a_torn_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "probe.jsonl"
    write_probe(path, probe())
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write_probe(path, probe()[:1])
    assert path.read_bytes() == before
    monkeypatch.undo()
    write_probe(path, probe()[:1])  # and what the torn one left is not read again
    assert len(read_probe(path, [make_prompt("p")])) == 1


def test_another_tasks_probe_is_refused(tmp_path: Path):
    path = tmp_path / "probe.jsonl"
    write_probe(path, probe())
    with pytest.raises(ValueError, match=r"holds 1 problems .* does not hold out, such as 'q'"):
        read_probe(path, [make_prompt("p")])
