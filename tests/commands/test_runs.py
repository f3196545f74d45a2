"""`rlstep runs`: runs beside each other, and where a model comes from."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlstep.cli import look
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.losses.dpo import Dpo
from rlstep.losses.ipo import Ipo
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.ledger import _changes
from rlstep.reporting.origins import note
from rlstep.reporting.run_directory import RunDirectory
from rlstep.testing.small import small_config
from tests.reporting.made_models import made_run, of_an_earlier_version, weights
from tests.reporting.recorded import record_run


@pytest.fixture(scope="module")
def generations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """'first' began with a model that no run made, 'second' with the first's export, 'third' with
    the second's."""
    root = tmp_path_factory.mktemp("alice") / "runs"
    base = weights(root.parent / "base", b"\x00\x00")
    for i, name in enumerate(("first", "second", "third"), start=1):
        run = made_run(root, name, base, bytes([i, i]))
        note(run, started=f"2026-11-0{i}T08:00:00Z")
        base = run.export
    return root


@pytest.fixture
def runs(generations: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(generations, tmp_path / "runs")
    return tmp_path / "runs"


def said(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> str:
    """What a command prints."""
    capsys.readouterr()
    assert look("runs", [*words, "--run-dir", str(root)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], root: Path, words: Sequence[str]) -> str:
    capsys.readouterr()
    assert look("runs", [*words, "--run-dir", str(root)] if words else words) == 2
    return capsys.readouterr().err


# --- list ----------------------------------------------------------------------------------------


def test_every_run_in_a_line_newest_first(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, runs, "list").splitlines()
    assert re.split("  +", lines[0]) == [
        *("run", "started (UTC)", "recipe", "iterations", "before", "after", "state")
    ]
    assert [line.split()[0] for line in lines[1:]] == ["third", "second", "first"]
    first = ["first", "2026-11-01 08:00", "first_recipe", "3/3", "25.0 %", "25.0 %", "complete"]
    assert re.split("  +", lines[3]) == first


def test_how_a_run_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = record_run(tmp_path, "ended")
    for name in ("stopped", "failed", "going", "killed"):
        shutil.copytree(run.path, tmp_path / name)
    for name, summary in (("stopped", {"complete": False}), ("failed", {"failed": True})):
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    for name in ("going", "killed"):
        (tmp_path / name / "summary.json").unlink()
        RunDirectory(tmp_path / name).hold().close()
    with RunDirectory(tmp_path / "going").hold():
        lines = said(capsys, tmp_path, "list").splitlines()[1:]
        with pytest.raises(BlockingIOError), (tmp_path / "going" / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is still the run's
    assert {line.split()[0]: re.split("  +", line)[-1] for line in lines} == {
        "ended": "complete",
        "stopped": "stopped",
        "failed": "failed",
        "going": "running",
        "killed": "not ended",
    }
    RunDirectory(tmp_path / "killed").hold().close()  # and nothing was left behind


def test_a_broken_run_is_a_row_that_says_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cut", "list", "torn", "lost", "aged"):
        shutil.copytree(runs / "first", runs / name)
    (runs / "cut" / "config.json").write_text('{"iterations": 3')
    (runs / "list" / "config.json").write_text("[]")
    with (runs / "torn" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "eval/accu')  # the machine lost power: not broken
    (runs / "lost" / "config.json").unlink()
    metrics = runs / "aged" / "metrics.jsonl"
    metrics.write_text("no json\n" + metrics.read_text())
    (runs / "notes").mkdir()  # no run
    lines = {line.split()[0]: line for line in said(capsys, runs, "list").splitlines()[1:]}
    assert list(lines)[-4:] == ["aged", "cut", "list", "lost"] and "notes" not in lines
    assert "broken: config.json: Expecting ',' delimiter" in lines["cut"]
    assert "broken: " in lines["list"] and lines["torn"].endswith("complete")
    assert lines["lost"].endswith("broken: it was killed before it wrote its configuration")
    assert "broken: metrics.jsonl" in lines["aged"]
    assert str(runs) not in "".join(lines.values())


def test_a_run_of_an_earlier_version_is_listed_and_shown(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_an_earlier_version(RunDirectory(runs / "first"))
    row = next(x for x in said(capsys, runs, "list").splitlines() if x.startswith("first"))
    assert "  unknown  " in row and row.endswith("complete")
    text = said(capsys, runs, "show", "first")
    assert "recipe unknown" in text and "code rlstep 0.1, commit unknown" in text
    assert "unknown: the run was made before data had hashes" in text
    assert "unknown: the run was made before models had hashes" in text
    assert "unknown: exported before models had hashes" in text


# --- show and diff -------------------------------------------------------------------------------


def test_a_run_is_shown_with_its_hashes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, runs, "show", "second")
    began, made = (hash_weights(runs / name / "export") for name in ("first", "second"))
    assert text.startswith("run second, complete, started 2026-11-02T08:00:00Z\n")
    assert f"policy: first/export, sha256 {began}" in text
    assert f"iteration 3, sha256 {made}" in text
    assert re.search(r"loss +Dpo +2305\.18290 ", text)
    assert "train: 2 prompts, sha256 " in text and str(runs.parent) not in text


def test_only_what_differs_by_dotted_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, loss in (("one", Dpo(beta=0.1)), ("two", Ipo()), ("three", Dpo(beta=0.2))):
        path = str(tmp_path / name / "policy")
        policy = LearnerConfig(model=ModelConfig(path=path), reference="initial")
        config = small_config(name=name, policy=policy, loss=loss, run_dir=str(tmp_path / name))
        record_run(tmp_path / "runs", name, config=config)
    root = tmp_path / "runs"
    lines = said(capsys, root, "diff", "one", "three").splitlines()
    assert [re.split("  +", line) for line in lines] == [
        ["field", "one", "three"],
        ["policy.model.path", "policy", "policy (of another folder)"],
        ["loss.beta", "0.1", "0.2"],
    ]
    assert re.search(r"^loss +Dpo +Ipo$", said(capsys, root, "diff", "one", "two"), re.MULTILINE)
    assert said(capsys, root, "diff", "one", "one") == "no field differs but the name\n"


def test_models_and_data_that_differ_by_hash(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, runs, "diff", "first", "second")
    began = hash_weights(runs / "first" / "export")[:12]
    assert re.search(rf"^sha256 of policy +[0-9a-f]{{12}} +{began}$", text, re.MULTILINE)
    assert "data.train" not in text and "started" not in text
    assert re.search("^policy.model.path +base +first/export$", text, re.MULTILINE)


def test_values_without_their_places() -> None:
    shown = {
        ("/a/x.jsonl", "/a/y.jsonl"): ("x.jsonl", "y.jsonl"),
        ('["/a/x", 1]', '["~/b/y"]'): ('["x", 1]', '["y"]'),
        ("m.a.Dpo", "n.b.Dpo"): ("m.a.Dpo", "n.b.Dpo"),  # two classes of one name
        ("m.a.Dpo", "m.a.Ipo"): ("Dpo", "Ipo"),
        ("a.b", "0.1"): ("a.b", "0.1"),
        ("1", None): ("1", "-"),
    }
    for (one, other), expected in shown.items():
        [change] = _changes({"f": one}, {} if other is None else {"f": other})
        assert (change.first, change.second) == expected


# --- lineage -------------------------------------------------------------------------------------


def test_three_generations(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, runs, "lineage", "third")
    order = [
        "run third, iteration 3, 25.0 % -> 25.0 %\n  recipe third_recipe\n",
        "  policy from second/export, sha256 ",
        "    run second, iteration 3, policy version 4, 25.0 % -> 25.0 %\n",
        "      policy from first/export, sha256 ",
        "        run first, iteration 3, policy version 4,",
        "          policy from base, sha256 ",
        "            no run here made it\n",
    ]
    places = [text.find(line) for line in order]
    assert -1 not in places and places == sorted(places), text
    assert str(runs.parent) not in text and "alice" not in text
    exported = said(capsys, runs, "lineage", str(runs / "third" / "export"))
    assert "no run here made it" in exported and exported.startswith("model third/export, sha256")


def test_a_model_that_was_moved_is_still_found(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = runs.parent / "elsewhere" / "mine"
    shutil.move(runs / "second" / "export", moved)
    (moved / "lineage.json").unlink()
    text = said(capsys, runs, "lineage", str(moved))
    assert text.startswith("model mine, sha256 ") and "  run second, iteration 3," in text
    assert "      run first, iteration 3," in said(capsys, runs, "lineage", str(moved))
    assert "    run second, iteration 3," in said(capsys, runs, "lineage", "third")


def test_a_model_whose_run_is_not_here(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = runs.parent / "mine"
    shutil.move(runs / "second" / "export", moved)
    shutil.rmtree(runs / "second")
    text = said(capsys, runs, "lineage", str(moved))
    assert "made by run second, which is not here; its lineage.json says:" in text
    assert "    run first, iteration 3" not in text.partition("policy from")[0]
    assert "run first, iteration 3," in text and "recipe second_recipe" in text


def test_weights_that_were_changed_after_their_export_are_said(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights(runs / "second" / "export", b"\x09\x09")
    text = said(capsys, runs, "lineage", str(runs / "second" / "export"))
    assert "its lineage.json is of other weights" in text and "they were changed after" in text


def test_an_export_of_an_earlier_version(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_an_earlier_version(RunDirectory(runs / "first"))
    text = said(capsys, runs, "lineage", str(runs / "first" / "export"))
    assert "it lies in run first, which kept no hash of it:" in text
    assert "parents unknown: the run was made before models had hashes" in text
    assert "no run here made it" in said(capsys, runs, "lineage", "second")


def test_two_runs_of_the_same_weights_and_a_model_that_is_its_own_parent(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "second", runs / "again")
    text = said(capsys, runs, "lineage", "third")
    assert "the same weights were made by second" in text or "were made by again" in text
    began = weights(runs.parent / "same", b"\x05\x05")
    run = made_run(runs, "nothing", began, b"\x05\x05")  # no update moved a weight
    text = said(capsys, runs, "lineage", str(run.export))
    assert text.count("run nothing, iteration 3") == 1 and "by run nothing, see above" in text


# --- what cannot be meant ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "runs: no verb; there are list, show, diff, lineage"),
        (("lst",), "runs: no verb 'lst'; the nearest is 'list'"),
        (("show", "frist"), "run 'frist': no such run or folder; the nearest in"),
        (("diff", "first"), "runs diff: the following arguments are required: RUN"),
        (("diff", "first", "secnd"), "the nearest in"),
        (("lineage", "thrid"), "run 'thrid': no such run or folder; the nearest in"),
        (("list", "--sort", "x"), "runs list: there is no option --sort"),
    ],
)
def test_unknown_names_have_a_nearest_one(
    words: tuple[str, ...], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, runs, words)


def test_files_that_were_cut_are_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no run in" in refused(capsys, runs.parent / "none", ["list"])
    file = runs / "third" / "export" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    wrong = refused(capsys, runs, ["lineage", str(runs / "third" / "export")])
    assert "model.safetensors is cut short" in wrong
    (runs / "second" / "versions.json").write_text('{"started"')
    assert "versions.json: Expecting" in refused(capsys, runs, ["show", "second"])
    # A run that cannot be read makes no other one unreadable.
    assert "no run here made it" in said(capsys, runs, "lineage", "third")
    with (runs / "first" / "models.jsonl").open("a") as lines:
        lines.write('{"iteration": 9}\n')
    assert said(capsys, runs, "lineage", "third")
