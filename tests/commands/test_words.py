"""Words of the command line that are refused: one line, which names what is valid."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from rlstep.cli import load_recipe, look, run_recipe
from rlstep.commands.words import configured, no_option, options
from rlstep.config import Config
from rlstep.optimizers.sgd_sai import SgdSai
from rlstep.testing.small import small_config
from tests.commands.test_cli import command

RECIPES = Path(__file__).parents[2] / "recipes"


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was printed."""
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("rlstep: ") and err.count("\n") == 1, (out, err)
    return err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian", "recipe.py"), "there is no command 'trian'; the nearest is 'train'"),
        (("Train", "recipe.py"), "the nearest is 'train'"),
        (("evla", "recipe.py"), "the nearest is 'eval'"),
        (("evaluate", "recipe.py"), "the nearest is 'eval'"),
        (("sho", "first"), "the nearest is 'show'"),
        (("lst",), "the nearest is 'list'"),
        (("exprot", "first"), "the nearest is 'export'"),
        (("rport", "first"), "the nearest is 'report'"),
        (("recipes/x.py",), "there is no command 'recipes/x.py'"),
        (("train",), "train needs a recipe first: rlstep train RECIPE [--FIELD VALUE ...]"),
        (("eval",), "eval needs a recipe first: rlstep eval RECIPE"),
        (("train", "--dry-run"), "train needs a recipe first"),
        (("eval", "--name", "first"), "eval needs a recipe first"),
    ],
)
def test_a_wrong_command(
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert command(monkeypatch, *words) == 2
    assert message in refused(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("show first --iter 2", "show: there is no option --iter; the nearest is --iteration;"),
        ("show first --promt x", "there is no option --promt; the nearest is --prompt;"),
        ("show --promt x", "there is no option --promt; the nearest is --prompt;"),
        ("show first --promt=x", "there is no option --promt; the nearest is --prompt;"),
        ("show first --eval", "there is no option --eval; the nearest is --evaluation;"),
        ("show first --rundir /x", "there is no option --rundir; the nearest is --run-dir;"),
        ("show first -i 2", "there is no option -i; the nearest is --"),
        ("show first second", "'second' stands behind no option that takes it; usage: rlstep show"),
        ("show first --iteration two", "argument --iteration: invalid int value: 'two'; usage:"),
        ("show first --iteration 2.5", "argument --iteration: invalid int value: '2.5'"),
        ("show first --iteration", "argument --iteration: expected one argument; usage: rlstep"),
        ("show", "show: the following arguments are required: RUN; usage: rlstep show"),
        ("export first --iterations 2", "there is no option --iterations; the nearest is --iterat"),
        ("export first --output x", "there is no option --output; the nearest is --out;"),
        ("export first --out", "argument --out: expected one argument"),
        ("export", "export: the following arguments are required: RUN"),
        ("report first --rundir x", "there is no option --rundir; the nearest is --run-dir"),
        ("report first second", "'second' stands behind no option that takes it"),
        ("report", "report: the following arguments are required: RUN"),
        ("list --room losses", "list: there is no option --room; usage: rlstep list [-h] [ROOM"),
        ("list losses piars", "no room 'piars', the nearest is 'pairs'"),
    ],
)
def test_a_wrong_word_of_a_command(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    verb, *rest = words.split(" ")
    assert look(verb, rest) == 2
    assert message in refused(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--iteratons 3", "there is no option --iteratons; the nearest is --iterations"),
        ("--iteratons=3", "there is no option --iteratons; the nearest is --iterations\n"),
        ("--iter 3", "there is no option --iter; the nearest is --iterations"),
        ("--iteratons 3 --nam x", "there is no option --iteratons; the nearest is --iterations"),
        ("3 --nam x", "there is no option --nam; the nearest is --name"),
        ("--dryrun", "there is no option --dryrun; the nearest is --dry-run"),
        ("--resum True", "the nearest is --resume"),
        ("--loss.betta 3", "the nearest is --loss.beta"),
        ("--los.beta 3", "the nearest is --loss.beta"),
        ("--polcy.zero-stage 2", "the nearest is --policy.zero-stage"),
        ("--learning-rate 1", "the nearest is --policy.optimizer.learning-rate"),
        ("--max-tokens 9", "the nearest is --rollouts.sampling.max-tokens"),
        ("--path x", "the nearest is --policy.model.path"),
        ("-n x", "there is no option -n; the nearest is --name"),
        ("3", "'3' stands behind no option that takes it"),
        ("--judgs x", "there is no option --judgs"),
        ("--judges x", "--judges is made in the recipe, and no option\n"),
        ("--step-models x", "--step-models is made in the recipe, and no option\n"),
        ("--loss dpo", "--loss is made in the recipe, and no option; what can be changed of it is"),
        ("--task=gsm8k", "what can be changed of it is --task.operations, --task.largest-operand"),
        ("--policy.model x", "what can be changed of it is --policy.model.path, --policy.model.dt"),
    ],
)
def test_an_option_that_is_none(words: str, message: str):
    assert message in no_option(small_config(), words.split(" ")) + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--iteratons 3 --seed 1",
            "there is no option --iteratons; the nearest is --iterations; x",
        ),
        ("--seed 1 --iteratons=3", "the nearest is --iterations; x --help has all"),
        ("--iterations 3 4", "'4' stands behind no option that takes it; x --help has all"),
        ("--loss dpo --seed 1", "--loss is made in the recipe, and no option; what can be changed"),
    ],
)
def test_an_option_that_is_none_ends_the_command(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
):
    assert run_recipe(small_config, words.split(" "), prog="x") == 2
    assert message in refused(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--iterations three", "--iterations: invalid literal for int() with base 10: 'three'; th"),
        ("--iterations 2.5", "'2.5'; the recipe's own is 3"),
        ("--iterations", "value for argument '--iterations'. Expected 1 values; the recipe's own"),
        (
            "--name -x",
            "Missing value for argument '--name'. Expected 1 values; the recipe's own is",
        ),
        ("--resume", "Missing value for argument '--resume'. Expected 1 values; the recipe's own "),
        (
            "--resume yes",
            "'yes' for argument '--resume'. Expected one of ('True', 'False'); the re",
        ),
        ("--resume true", "Expected one of ('True', 'False'); the recipe's own is False"),
        ("--policy.zero-stage 7", "'--policy.zero-stage'. Expected one of ('0', '1', '2', '3')"),
        ("--policy.model.dtype fp8", "Expected one of ('float32', 'bfloat16')"),
        ("--policy.optimizer.betas 1", "Expected 2 values; the recipe's own is 0.9 0.999"),
        ("--policy.optimizer.betas 1 x", "the recipe's own is 0.9 0.999"),
        ("--rollouts.sampling.temperature hot", "could not convert string to float: 'hot'; the re"),
        ("--prompts-per-iteration 0", "prompts_per_iteration is 0; the smallest valid value is 1"),
        ("--seed -1", "rlstep: seed is -1; the smallest valid value is 0"),
        ("--policy.world-size 0", "policy: learner.world_size is 0; the smallest valid value is 1"),
        ("--policy.optimizer.learning-rate -1", "optimizer.learning_rate is -1.0; the smallest va"),
        ("--loss.beta -1", "beta is -1.0"),
        ("--run-dir runs", "run_dir is 'runs'; it must be absolute"),
        (f"--seed {'9' * 60}x", f"'{'9' * 60}x'; the recipe's own is 0"),
    ],
)
def test_a_value_that_is_none(words: str, message: str, capsys: pytest.CaptureFixture[str]):
    assert run_recipe(small_config, words.split(" ")) == 2
    assert message in refused(capsys)


def test_the_fields_of_another_optimizer_are_options(capsys: pytest.CaptureFixture[str]):
    small = small_config()
    written = replace(small, policy=replace(small.policy, optimizer=SgdSai(momentum=0.5)))
    words = "--policy.optimizer.momentum 0.25 --policy.optimizer.learning-rate 0.1"
    assert configured(written, words.split(" "), "x").policy.optimizer == SgdSai(
        momentum=0.25, learning_rate=0.1
    )
    assert run_recipe(lambda: written, ["--policy.optimizer.betas", "0.9", "0.9"]) == 2
    assert "there is no option --policy.optimizer.betas" in refused(capsys)
    assert run_recipe(lambda: written, ["--policy.optimizer.momentum", "2"]) == 2
    assert "optimizer.momentum is 2.0; the largest valid value is 0.999999" in refused(capsys)


def test_a_script_names_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["recipes/x.py", "--iteratons", "3"])
    assert run_recipe(small_config) == 2
    assert "the nearest is --iterations; recipes/x.py --help has all" in refused(capsys)


def test_a_narrow_terminal_breaks_no_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "40")
    assert run_recipe(small_config, ["--policy.zero-stage", "7"]) == 2
    assert "'--policy.zero-stage'. Expected one of ('0', '1', '2', '3')" in refused(capsys)
    assert os.environ["COLUMNS"] == "40"
    monkeypatch.delenv("COLUMNS")
    assert configured(small_config(), ["--seed", "3"], None).seed == 3
    assert "COLUMNS" not in os.environ


def test_help_is_as_wide_as_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit) as end:
        configured(small_config(), ["--help"], "rlstep train x.py")
    assert end.value.code == 0
    options = [line for line in capsys.readouterr().out.splitlines() if " --" in line]
    assert len(options) > 50 and max(map(len, options)) == 60


def test_options_are_those_of_the_parser(monkeypatch: pytest.MonkeyPatch):
    """With none, one or several plug-ins, nested ones, and a mapping."""
    import tyro

    monkeypatch.setattr(sys, "path", list(sys.path))
    found: set[str] = set()
    recipes = ("arithmetic_rewards", "gsm8k_hybrid", "arithmetic_full_step_dpo")
    for name in (*recipes, "arithmetic_distillation"):
        config = load_recipe(str(RECIPES / f"{name}.py"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            parser = tyro.extras.get_parser(
                Config,
                default=config,
                config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands),
            )
        theirs = {o for o in vars(parser)["_option_string_actions"] if o.startswith("--")}
        assert set(dict(options(config))) == theirs - {"--help"}
        found |= theirs
    assert {"--labellers.2.weights.length", "--judges.1.model.template.arguments"} <= found
