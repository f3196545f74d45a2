"""`rlstep show`: rollouts of a run in the terminal."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rlstep.cli import main
from rlstep.commands import show
from rlstep.reporting.rows import rollout_rows
from tests.reporting.recorded import ITERATIONS, Oracle, conversation, record_run


def shown(*words: str) -> str:
    console = Console(file=StringIO(), width=100, color_system=None)
    show.main(words, console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_the_last_iteration_is_shown_step_by_step(tmp_path: Path):
    run = record_run(tmp_path)
    text = shown(str(run.path))
    assert "run demo, iteration 3: 3 of 4 rollouts correct, 1 failed, 2 prompts" in text
    assert "step scores of prm: 0 bad, 0.5 unsure, 1 good" in text
    for line in (
        "prompt mixed-3: 2 of 3 rollouts correct, 1 failed\n  | question\n  reference 42\n",
        "  wrong  answer #4  3/mixed-3/0\n    1  0.900  1+1=2\n    2  0.100  2+2=x\n"
        "             ^ first error (prm below 0.5)\n    3  0.700  #4\n",
        "  correct  answer #2  3/mixed-3/2  prm timeout\n    1      -  1+1=2\n",
        "  failed: generator_lost: a node went away\n",
        "prompt plain-3: 1 of 1 rollouts correct",
    ):
        assert line in text, text
    # Rollouts that differ are shown first.
    assert text.index("prompt mixed-3") < text.index("prompt plain-3")


def test_an_iteration_and_a_prompt_may_be_named(tmp_path: Path):
    run = record_run(tmp_path)
    assert "iteration 1: " in shown(str(run.path), "--iteration", "1")
    text = shown(str(run.path), "--prompt", "plain-2")  # of the last iteration that has it
    assert "iteration 2: " in text and "prompt plain-2: " in text
    assert "mixed-2" not in text and "more of its prompts" not in text


def test_what_it_was_evaluated_on_is_shown_wrong_ones_first(tmp_path: Path):
    run = record_run(tmp_path, evaluated=True)
    text = shown(str(run.path), "--evaluation")
    assert "run demo, iteration 3: 2 of 3 rollouts correct, 3 prompts" in text
    assert text.index("prompt held-1: 0 of 1") < text.index("prompt held-0: 1 of 1")
    assert "mixed-3" not in text and "2+2=x" in text
    text = shown(str(run.path), "--evaluation", "--iteration", "0")
    assert "iteration 0: 0 of 3 rollouts correct" in text
    text = shown(str(run.path), "--evaluation", "--prompt", "held-2")
    assert "iteration 3: " in text and "prompt held-2: 1 of 1" in text
    with pytest.raises(ValueError, match=r"has evaluations of iterations 0, 3, the nearest is 3"):
        shown(str(run.path), "--evaluation", "--iteration", "2")
    with pytest.raises(ValueError, match=r"--prompt is 'mixed-3'.*the nearest is 'held-"):
        shown(str(run.path), "--evaluation", "--prompt", "mixed-3")
    assert "mixed-3" in shown(str(run.path))  # without the word, what it was trained on


def test_a_run_without_evaluations_says_so(tmp_path: Path):
    with pytest.raises(ValueError, match="has no evaluated completions: it was not evaluated"):
        shown(str(record_run(tmp_path).path), "--evaluation")


def test_a_run_that_was_only_evaluated_points_to_it(tmp_path: Path):
    run = record_run(tmp_path, evaluated=True)
    run.rollouts.path.unlink()
    with pytest.raises(ValueError, match=r"it trained no iteration; --evaluation shows what"):
        shown(str(run.path))
    assert "2 of 3 rollouts correct" in shown(str(run.path), "--evaluation")


def test_two_prompts_are_shown_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = record_run(tmp_path)
    assert "more of its prompts" not in shown(str(run.path))
    monkeypatch.setattr(show, "PROMPTS", 1)
    assert shown(str(run.path)).endswith(
        "1 more of its prompts by --prompt ID, such as 'plain-3'\n"
    )


def test_where_the_task_knows_the_first_error_it_is_the_tasks(tmp_path: Path):
    text = shown(str(record_run(tmp_path, oracle=Oracle()).path))
    assert "2+2=x\n             ^ first error (by the task's own check)" in text
    assert text.count("first error") == 1  # the single rollout scores 0.3, and is right


def test_a_score_has_its_colour(tmp_path: Path):
    run = record_run(tmp_path)
    console = Console(
        file=StringIO(), width=100, color_system="standard", force_terminal=True, no_color=False
    )
    show.main([str(run.path)], console)
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for score, code in (("0.900", "1;32"), ("0.100", "1;31"), ("0.500", "33"), ("0.300", "31")):
        assert f"\x1b[{code}m {score}" in text, text


def test_a_models_text_cannot_steer_the_terminal(tmp_path: Path):
    lines = ["\x1b[31mred[/]\n", "[bold]x\n", "#4"]
    text = shown(str(record_run(tmp_path, lines=lines).path))
    assert "\x1b" not in text and "\\x1b[31mred[/]" in text and "[bold]x" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dmo",), "run 'dmo': no such run or folder; the nearest in"),
        (("dmo",), "is 'demo' (the newest is 'demo')"),
        (("demo", "--iteration", "9"), "rollouts of iterations 1 to 3, the nearest is 3"),
        (("demo", "--iteration", "0"), "the nearest is 1"),
        (("demo", "--prompt", "mixd-2"), "the nearest is 'mixed-2' (iteration 2)"),
        (("demo", "--prompt", "mixd-2"), "not among the 6 prompts of the run"),
        (("demo", "--iteration", "1", "--prompt", "mixed-2"), "the nearest is 'mixed-1'"),
        (("demo", "--prompt", ""), "--prompt is ''"),
        (("",), "run '': no such run or folder"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    record_run(tmp_path)
    monkeypatch.setenv("RLSTEP_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["rlstep", "show", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_run_without_rollouts_says_so(tmp_path: Path):
    run = record_run(tmp_path)
    run.rollouts.path.unlink()
    with pytest.raises(ValueError, match="has no rollouts: it trained no iteration"):
        shown(str(run.path))


def test_no_runs_at_all(tmp_path: Path):
    with pytest.raises(ValueError, match="has none; give the run's folder, or set RLSTEP_RUN_DIR"):
        shown("demo", "--run-dir", str(tmp_path))


def test_what_was_observed_stands_behind_a_mark_and_is_no_step(tmp_path: Path):
    run = record_run(tmp_path)
    run.rollouts.append(*rollout_rows(ITERATIONS, [conversation(ITERATIONS)]))
    assert (
        "  wrong  answer -  3/talk/0\n"
        "   observed < 31 \n"
        "    1  0.900  11 \n"
        "   observed < 32 33 \n"
        "    2  0.100  12 13 \n"
        "             ^ first error (prm below 0.5)\n"
    ) in shown(str(run.path), "--prompt", "talk")
    assert "observed" not in shown(str(run.path), "--prompt", "mixed-3")


def test_what_was_observed_in_several_lines_is_marked_in_each(tmp_path: Path):
    run = record_run(tmp_path)
    [row] = rollout_rows(ITERATIONS, [conversation(ITERATIONS)])
    row["steps"][0]["observed"] = "\n1 wrong  answer #4\n  2  0.900  1+1=2\n"
    run.rollouts.append(row)
    text = shown(str(run.path), "--prompt", "talk")
    assert "   observed < 1 wrong  answer #4\n   observed <   2  0.900  1+1=2\n" in text
