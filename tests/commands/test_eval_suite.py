"""lm-eval's tasks on a run's model: what is asked for, refused, and kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlstep.commands.eval_suite import PYTHON, main
from rlstep.commands.lm_eval_child import leaves, refused
from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer
from tests.real_package import python_with
from tests.reporting.made_models import weights

ANSWER = {
    "lm_eval": "0.4.13",
    "results": {
        "chains": {
            "alias": "chains",
            "exact_match,last-line": 0.5,
            "exact_match_stderr,last-line": 0.25,
            "sample_len": 4,
        },
        "words": {"alias": "words", "acc,none": 0.25, "acc_stderr,none": "N/A"},
    },
    "versions": {"chains": 1.0},
    "n-shot": {"chains": 0, "words": 5},
    "n-samples": {"chains": {"original": 9, "effective": 4}},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    export = tmp_path / "first" / "export"
    export.mkdir(parents=True)
    (export.parent / "config.json").write_text("{}")
    (export.parent / "checkpoints").mkdir()
    (export / "config.json").write_text("{}")
    weights(export, b"own")
    (export / "lineage.json").write_text('{"iteration": 12}')
    return export.parent


def interpreter(folder: Path, body: str) -> str:
    """What stands in for Python: $1 is the child's file, $2 the request, $3 the answer."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def answering(folder: Path, answer: dict[str, Any] = ANSWER) -> str:
    (folder / "answer.json").write_text(json.dumps(answer))
    kept = f"cp $2 {folder}/asked.json; env > {folder}/env"
    return interpreter(folder, f"{kept}; cp {folder}/answer.json $3")


def suite(run: Path, *words: str) -> None:
    main([run.name, "--run-dir", str(run.parent), "--tasks", "chains,words", *words])


def test_results_stand_beside_the_runs_metrics(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/rlsteps/own")
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    python = answering(tmp_path)
    words = ("--shots", "0", "--limit", "4", "--model-args", "device=cpu,dtype=float32")
    suite(run, "--python", python, *words)
    asked = json.loads((tmp_path / "asked.json").read_text())
    assert asked == {
        "backend": "hf",
        "model_args": f"pretrained={run / 'export'},device=cpu,dtype=float32",
        "tasks": ["chains", "words"],
        "include": None,
        "limit": 4,
        "shots": 0,
        "chat_template": False,
    }
    chains, words_ = [json.loads(line) for line in (run / "suites.jsonl").read_text().splitlines()]
    assert chains["figures"] == {"exact_match,last-line": 0.5}
    assert chains["errors"] == {"exact_match,last-line": 0.25}
    assert (chains["iteration"], chains["shots"], chains["samples"]) == (12, 0, 4)
    assert (words_["figures"], words_["errors"], words_["shots"]) == ({"acc,none": 0.25}, {}, 5)
    assert len(chains["sha256"]) == 64 and chains["model"] == "first/export"
    said = capsys.readouterr().out
    assert "exact_match,last-line" in said and "0.2500" in said
    # The other interpreter imports nothing of rlstep's, and no one has allowed code.
    environment = (tmp_path / "env").read_text()
    assert "PYTHONPATH=" not in environment and "HF_ALLOW_CODE_EVAL" not in environment
    suite(run, "--python", python)
    assert len((run / "suites.jsonl").read_text().splitlines()) == 4


def test_another_model_is_told_from_the_runs(run: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    weights(base, b"base")
    suite(run, "--python", answering(tmp_path), "--model", str(base))
    row = json.loads((run / "suites.jsonl").read_text().splitlines()[0])
    assert (row["model"], row["iteration"]) == ("base", None)
    suite(run, "--python", answering(tmp_path))
    other = json.loads((run / "suites.jsonl").read_text().splitlines()[-1])
    assert other["sha256"] != row["sha256"]


@pytest.mark.parametrize(
    ("body", "words", "message"),
    [
        ("echo one; echo two >&2; exit 3", (), r"lm-eval ended with 3; .*\.log ends:\none\ntwo"),
        ("exit 0", (), "lm-eval ended with 0"),
        ("exec sleep 600", ("--deadline-s", "0.2"), "took longer than --deadline-s"),
    ],
    ids=["fails", "says-nothing", "hangs"],
)
def test_what_does_not_end_well_is_told(
    body: str, words: tuple[str, ...], message: str, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        suite(run, "--python", interpreter(tmp_path, body), *words)
    assert not (run / "suites.jsonl").exists()


def test_what_is_refused_before_anything_starts(run: Path, tmp_path: Path) -> None:
    told = answering(tmp_path, {"refused": "/usr/bin/python has no lm-eval: No module"})
    with pytest.raises(
        ValueError, match=r"no lm-eval: .*pip install 'rlstep\[evals\]', .*--python"
    ):
        suite(run, "--python", told)
    with pytest.raises(ValueError, match="--python is '/no/python': No such file"):
        suite(run, "--python", "/no/python")
    for words, message in (
        (
            ("--model-args", "pretrained=other"),
            "--model-args has 'pretrained'; they are NAME=VALUE",
        ),
        (("--model-args", "dtype"), "--model-args has 'dtype'"),
        (("--limit", "0"), "--limit is 0; the smallest valid is 1"),
        (("--shots", "-1"), "--shots is -1; the smallest valid is 0"),
        (("--tasks", ","), "--tasks is ''; name at least one"),
        (("--iteration", "7"), "'first' has no export of iteration 7; give its export"),
        (("--model", str(tmp_path)), "which is no model's folder"),
    ):
        with pytest.raises(ValueError, match=message):
            suite(run, "--python", told, *words)


# --- which of lm-eval's tasks run what a model writes --------------------------------------------

FOLDER = Path("/lm_eval/tasks")


def entry(place: str, tags: tuple[str, ...] = (), **config: Any) -> SimpleNamespace:
    return SimpleNamespace(yaml_path=FOLDER / place, cfg=config, tags=set(tags))


INDEX = {
    "gsm8k": entry("gsm8k/gsm8k.yaml", task="gsm8k"),
    "humaneval": entry("humaneval/humaneval.yaml", task="humaneval", unsafe_code=True),
    # Neither says that it runs code (0.4.13).
    "cruxeval_input": entry("cruxeval/cruxeval_input.yaml", task="cruxeval_input"),
    "countdown": entry("longproc/countdown.yaml", task="countdown"),
    "mine": entry("../../mine/mine.yaml", task="mine", unsafe_code=True),
    "some": entry("some/some.yaml", group="some", task=["gsm8k", {"task": "inner"}]),
    "inner": entry("some/inner.yaml", group="inner", task=[{"group": "deep", "task": []}, "mine"]),
    "tagged": SimpleNamespace(yaml_path=None, cfg=None, tags={"gsm8k", "cruxeval_input"}),
    "circle": entry("some/circle.yaml", group="circle", task=["circle", "gsm8k"]),
}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["gsm8k"], ""),
        (["circle"], ""),
        (["gsm8k", "humaneval"], "--tasks has 'humaneval', which runs what the model wrote"),
        (["cruxeval_input"], "'cruxeval_input', which runs"),
        (["countdown"], "'countdown', which runs"),
        (["some"], r"'mine' \(of 'some'\), which runs"),
        (["tagged"], r"'cruxeval_input' \(of 'tagged'\), which runs"),
        (["gsm9k"], "'gsm9k', which lm-eval does not know; the nearest is 'gsm8k'"),
    ],
)
def test_tasks_of_code_are_refused_by_name(tasks: list[str], message: str) -> None:
    said = refused(tasks, INDEX, FOLDER)
    assert re.search(message, said) if message else said == ""


def test_a_group_is_its_tasks() -> None:
    assert list(leaves("some", INDEX, set())) == ["gsm8k", "mine"]
    assert list(leaves("circle", INDEX, set())) == ["gsm8k"]


# --- the real package ----------------------------------------------------------------------------

TASK = """\
task: chains
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: generate_until
doc_to_text: "{{{{problem}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs:
  until: ["<eos>"]
  max_gen_toks: 72
  do_sample: false
filter_list:
  - name: last-line
    filter:
      - function: regex
        regex_pattern: "#([0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lm-eval")
    # torch goes first, and by itself: what lm-eval asks for would bring its CUDA build.
    wanted = ("torch==2.13.0", "lm-eval==0.4.13", "transformers", "accelerate")
    return python_with(wanted, PYTHON, folder)


@pytest.mark.slow
def test_lm_eval_itself(python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = Path(__file__).parents[2] / "recipes" / "policies" / "arithmetic"
    run = tmp_path / "first"
    (run / "export").parent.mkdir()
    (run / "export").symlink_to(policy)
    (run / "config.json").write_text("{}")
    task = Arithmetic(operations=8, largest_operand=9, largest_factor=3, limit=20, evaluation=64)
    problems = task.load(arithmetic_tokenizer(), 64).evaluation
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"problem": p.text, "answer": p.answer}) + "\n" for p in problems)
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "chains.yaml").write_text(TASK.format(rows=rows))
    words = ["--run-dir", str(tmp_path), "--python", python, "--include", str(tmp_path / "own")]
    main(["first", *words, "--tasks", "chains", "--model-args", "device=cpu,batch_size=64"])
    [row] = [json.loads(line) for line in (run / "suites.jsonl").read_text().splitlines()]
    # As `rlstep eval` has it of all 512: 59.6 %, and 6.1 points are its standard error of 64.
    assert 0.4 < row["figures"]["exact_match,last-line"] < 0.8
    assert 0.05 < row["errors"]["exact_match,last-line"] < 0.07
    assert (row["samples"], row["shots"], row["lm_eval"][:4]) == (64, 0, "0.4.")
    for name in ("humaneval", "mbpp", "cruxeval_input", "chain"):
        with pytest.raises(ValueError, match=f"--tasks has '{name}'"):
            main(["first", *words, "--tasks", name])
