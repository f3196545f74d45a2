"""`rlstep eval --compare`, on evaluations that are written by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rlstep.cli import look, main
from rlstep.reporting.files import write_json
from rlstep.reporting.run_directory import RunDirectory

PROBLEMS = ["p0", "p1", "p2", "p3"]


def evaluated(
    root: Path,
    name: str,
    right: str,
    samples: str = "",
    problems: list[str] = PROBLEMS,
    sets: tuple[str, ...] = (),
) -> None:
    """A run whose last evaluation was of iteration 3.

    Args:
        right: of each problem '1' where its greedy answer is right, '-' where it failed.
        samples: of each problem, separated by spaces, the same of each sample.
    """
    run = RunDirectory.create(root, name)
    write_json(run.config, {"evaluation": {"sets": [{"name": each} for each in sets]}})
    for iteration in (0, 3):
        now = right if iteration else "0" * len(right)
        rows = [
            row(iteration, problem, verdict) for problem, verdict in zip(problems, now, strict=True)
        ]
        run.evaluations.append(*rows)
        run.metrics.append({"iteration": iteration, "eval/accuracy": 0.5})
    for problem, group in zip(problems, samples.split(), strict=False):
        run.samples.append(*(sample(3, problem, each) for each in group))


def row(iteration: int, problem: str, right: str) -> dict[str, Any]:
    if right == "-":
        return {"iteration": iteration, "prompt_id": problem, "failure": "timeout"}
    verdict = "correct" if right == "1" else "wrong"
    return {"iteration": iteration, "prompt_id": problem, "verdict": verdict}


def sample(iteration: int, problem: str, right: str) -> dict[str, Any]:
    made = row(iteration, problem, right) | {"answer": right, "value": float(right == "1")}
    return made | {"scores": {"prm": [0.9 if right == "1" else 0.1]}, "failures": {}}


def comparing(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert look("compare", [*words, "--run-dir", str(root)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_it_is_a_form_of_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("first", "second"):
        evaluated(tmp_path, name, "1010")
    words = ["rlstep", "eval", "--compare", "first", "second", "--run-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and "second against first" in capsys.readouterr().out


def refused(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert look("compare", [*words, "--run-dir", str(root)]) == 2
    return capsys.readouterr().err


def test_greedy_answers_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    evaluated(tmp_path, "first", "1010")
    evaluated(tmp_path, "second", "1101")
    text = comparing(tmp_path, capsys, "first", "second")
    assert "second against first: 4 problems that both have" in text
    [cells] = [line.split() for line in text.splitlines() if line.startswith("greedy  ")]
    assert cells[:4] == ["greedy", "50.0", "75.0", "+25.0"] and cells[-2:] == ["2", "1"]
    assert "right in the second alone: 'p1', 'p3'" in text
    assert "right in the first alone: 'p2'" in text


def test_samples_side_by_side_at_the_smaller_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    evaluated(tmp_path, "few", "1100", samples="11 10 00 00")
    evaluated(tmp_path, "many", "1100", samples="1111 1110 1000 0000")
    text = comparing(tmp_path, capsys, "few", "many")
    found = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    # avg: (1 + 1/2) / 4 and (1 + 3/4 + 1/4) / 4.
    assert found["avg@k"][1:3] == ["37.5", "50.0"]
    # Of two samples of the second 1, 1, 1 - C(3,2)/C(4,2) = 1/2, 0: 2.5 / 4.
    assert found["pass@2"][1:3] == ["50.0", "62.5"]
    assert found["best-of-2, prm min"][3:5] == ["50.0", "62.5"]  # it puts right ones first


def test_what_failed_is_in_no_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    evaluated(tmp_path, "first", "101-")
    evaluated(tmp_path, "second", "1011")
    text = comparing(tmp_path, capsys, "first", "second")
    assert "3 problems that both have\nleft out: 0 of the first alone, 1 of the second" in text


def test_sets_are_compared_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = ["p0", "p1", "hard/p0", "hard/p1"]
    evaluated(tmp_path, "first", "1100", problems=names, sets=("hard",))
    evaluated(tmp_path, "second", "1111", problems=names, sets=("hard",))
    text = comparing(tmp_path, capsys, "first", "second")
    assert "second against first: 2 problems that both have" in text
    assert "second against first: 2 problems of hard that both have" in text
    hard = text.partition("of hard")[2]
    assert "+100.0" in hard and "'hard/p0', 'hard/p1'" in hard


def test_several_against_the_first_and_all_of_it_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, right in (("a", "1000"), ("b", "1100"), ("c", "1110")):
        evaluated(tmp_path, name, right)
    file = tmp_path / "all.json"
    text = comparing(tmp_path, capsys, "a", "b", "c", "--json", str(file))
    assert "b against a" in text and "c against a" in text
    found = json.loads(file.read_text())["comparisons"]
    assert [each["second"] for each in found] == ["b", "c"]
    [greedy] = found[1]["rows"]
    assert greedy["difference"]["value"] == 0.5 and greedy["flipped"]["better"] == ["p1", "p2"]


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    evaluated(tmp_path, "first", "1010")
    evaluated(tmp_path, "other", "11", problems=["q0", "q1"])
    assert "name at least two" in refused(tmp_path, capsys, "first")
    assert "no problem in common" in refused(tmp_path, capsys, "first", "other")
    assert "the nearest in" in refused(tmp_path, capsys, "first", "othr")
    bare = RunDirectory.create(tmp_path, "bare")
    write_json(bare.config, {})
    assert "bare has no evaluated completions" in refused(tmp_path, capsys, "first", "bare")
