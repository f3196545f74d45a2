"""What an export says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlstep.reporting.card import CARD, LINEAGE, card, sign
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.origins import data_of, note, read_versions
from rlstep.reporting.run_directory import RunDirectory
from rlstep.tasks.jsonl import Jsonl
from tests.reporting.made_models import PROMPTS, made_run, of_an_earlier_version, weights

GOLDEN = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
- rlstep
- arxiv:2305.18290
model-index:
- name: first
  results:
  - task:
      type: text-generation
    dataset:
      name: Arithmetic
      type: arithmetic
    metrics:
    - type: accuracy
      value: 0.5957
      name: held-out accuracy
---

# first

Trained with rlstep by `arithmetic_dpo`, to iteration 12.
Weights: sha256 `aa11`.

## Figures

| | |
|---|---|
| accuracy, start | 25.0 % (iteration 0, on 8 held-out problems) |
| accuracy, end | 59.6 ± 2.2 % (iteration 12, on 512 held-out problems) |
| iterations | 12 |
| updates | 24 |
| prompts asked | 768 |
| seconds of training | 154 |
| versions | policy 13 |

## Trained by

| part | method | papers |
|---|---|---|
| loss | `Dpo`: p(a \\| b) | [2305.18290](https://arxiv.org/abs/2305.18290) |
| splitter | `NewlineSplitter` | - |

## Data

`Arithmetic`
* train: 64 prompts, sha256 `bb2233445566`

## Parents

* policy: `arithmetic`, sha256 `cc33`
* prm: `owner/prm`, its weights are elsewhere

Code: rlstep 0.1, commit dd44.
"""


def figure(value: float, error: float | None, iteration: int, problems: int) -> dict[str, Any]:
    numbers = {"value": value, "standard_error": error, "iteration": iteration}
    return {"name": "accuracy", **numbers, "problems": problems}


def lineage(**changed: Any) -> dict[str, Any]:
    return {
        "sha256": "aa11",
        "run": "first",
        "recipe": "arithmetic_dpo",
        "head": "language_model",
        "iteration": 12,
        "versions": {"policy": 13},
        "code": {"rlstep": "0.1", "commit": "dd44"},
        "methods": [
            {"part": "loss", "class": "Dpo", "about": "p(a | b)", "papers": ["2305.18290"]},
            {"part": "splitter", "class": "NewlineSplitter", "about": "", "papers": []},
        ],
        "data": {
            "name": "Arithmetic",
            "from": [],
            "train": {"sha256": "bb22334455667788", "prompts": 64},
        },
        "parents": {
            "policy": {"name": "arithmetic", "sha256": "cc33"},
            "prm": {"name": "owner/prm", "unknown": "its weights are elsewhere"},
        },
        "figures": {
            "iterations": 12,
            "updates": 24,
            "prompts_asked": 768,
            "seconds": 154,
            "measured": [figure(0.25, None, 0, 8), figure(0.59574, 0.0217, 12, 512)],
        },
        **changed,
    }


def test_a_card_as_it_stands() -> None:
    assert card(lineage()) == GOLDEN


def test_the_hub_reads_its_front_matter() -> None:
    from huggingface_hub import ModelCard

    base = {"policy": {"name": "owner/base", "revision": "abc", "sha256": "cc33"}}
    data = {"name": "Rows", "from": ["openai/gsm8k", "rows.jsonl"]}
    read: Any = ModelCard(card(lineage(parents=base, data=data))).data
    assert read.base_model == "owner/base" and read.datasets == ["openai/gsm8k"]
    [result] = read.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.5957)
    plain: Any = ModelCard(card(lineage())).data
    assert plain.base_model is None and plain.datasets is None and plain.license is None


@pytest.mark.parametrize(
    ("head", "pipeline"),
    [("language_model", "text-generation"), ("token_classification", "token-classification")],
)
def test_a_model_that_scores_is_none_that_writes(head: str, pipeline: str) -> None:
    assert f"pipeline_tag: {pipeline}\n" in card(lineage(head=head))


def test_what_was_not_measured_or_kept_is_said() -> None:
    nothing = {**lineage()["figures"], "measured": []}
    text = card(lineage(figures=nothing, data=None, parents=None, recipe=None))
    assert "| accuracy | not measured |" in text and "model-index" not in text
    assert "unknown: the run was made before data had hashes" in text
    assert "unknown: the run was made before models had hashes" in text
    nll = [{**figure(v, None, i, 4), "name": "nll"} for v, i in ((1.25, 0), (0.5, 9))]
    text = card(lineage(figures={**nothing, "measured": nll}))
    assert "| negative log-likelihood, end | nll 0.500 (iteration 9, on 4 held-out" in text
    assert "model-index" not in text  # it is no accuracy


# --- from a run's files --------------------------------------------------------------------------


def test_an_export_is_signed_from_what_the_run_wrote(tmp_path: Path) -> None:
    began = weights(tmp_path / "alice" / "base", b"\x01\x01")
    run = made_run(tmp_path / "alice" / "runs", "first", began, b"\x02\x02")
    said = json.loads((run.export / LINEAGE).read_text())
    assert said["sha256"] == hash_weights(run.export) != hash_weights(began)
    assert said["parents"] == {"policy": {"name": "base", "sha256": hash_weights(began)}}
    assert said["data"] == read_versions(run)["data"]
    assert (said["run"], said["recipe"], said["iteration"]) == ("first", "first_recipe", 3)
    [accuracy] = {f["value"] for f in said["figures"]["measured"]}
    assert accuracy == 0.25 and said["figures"]["iterations"] == 3
    [line] = run.models
    assert line == {n: said[n] for n in ("iteration", "sha256", "versions", "made")}
    assert (run.export / CARD).read_text() == card(said)


def test_an_earlier_iteration_has_the_figures_of_its_time(tmp_path: Path) -> None:
    run = made_run(tmp_path, "first", weights(tmp_path / "base", b"\x01\x01"), b"\x02\x02")
    run.metrics.append({"iteration": 3, "eval/accuracy": 0.75, "eval/accuracy_standard_error": 0.1})
    early = sign(weights(tmp_path / "early", b"\x03\x03"), run, 2, {"policy": 3})
    late = sign(weights(tmp_path / "late", b"\x04\x04"), run, 3, {"policy": 4})
    ends = [said["figures"]["measured"][-1] for said in (early, late)]
    assert [(e["value"], e["standard_error"]) for e in ends] == [(0.25, None), (0.75, 0.1)]
    assert [line["iteration"] for line in run.models] == [3, 2, 3]


def test_no_path_no_user_and_no_secret(tmp_path: Path) -> None:
    secret = "sk-" + 24 * "b"
    root = tmp_path / "alice" / "runs"
    run = made_run(root, "first", weights(tmp_path / secret, b"\x01\x01"), b"\x02\x02")
    note(run, data=data_of(Jsonl(path=f"{tmp_path}/alice/{secret}.jsonl"), PROMPTS))
    sign(run.export, run, 3, {})
    for file in (run.export / LINEAGE, run.export / CARD, run.versions, run.models.path):
        text = file.read_text()
        for told in (str(tmp_path), "alice", secret):
            assert told not in text, file.name


def test_a_run_of_an_earlier_version_is_signed_with_what_is_known(tmp_path: Path) -> None:
    began = weights(tmp_path / "base", b"\x01\x01")
    run = of_an_earlier_version(made_run(tmp_path / "runs", "first", began, b"\x02\x02"))
    said = sign(run.export, run, 3, {})
    assert said["recipe"] is None and said["parents"] is None and said["data"] is None
    assert {"part": "loss", "class": "Dpo", "about": "", "papers": []} in said["methods"]
    text = (run.export / CARD).read_text()
    assert "by a recipe that is unknown" in text and "commit unknown" in text


def test_weights_without_a_hash_are_said_and_in_no_ledger(tmp_path: Path) -> None:
    run: RunDirectory = made_run(
        tmp_path / "runs", "first", weights(tmp_path / "base", b"\x01\x01"), b"\x02\x02"
    )
    (tmp_path / "pickled").mkdir()
    said = sign(tmp_path / "pickled", run, 3, {})
    assert said["unknown"] == "pickled has no weights in safetensors"
    assert "Hash unknown: pickled has no" in (tmp_path / "pickled" / CARD).read_text()
    assert len(list(run.models)) == 1
