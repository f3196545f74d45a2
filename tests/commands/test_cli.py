"""The `rlstep` command: what it refuses, and what a dry run prints and leaves alone."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rlstep.cli import load_recipe, main, run_recipe
from rlstep.config import Config, LearnerConfig, ModelConfig
from rlstep.interfaces import Judge
from rlstep.losses.step_label import StepLabelLoss
from rlstep.reporting.probe import write_probe
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.running.preparing import load_tokenizer
from rlstep.running.run import prepare
from rlstep.scoring.judges.endpoint import Endpoint
from rlstep.scoring.judges.generator_model import GeneratorModel
from rlstep.scoring.judges.reference_judge import ReferenceJudge
from rlstep.scoring.judges.step_judge import StepJudge
from rlstep.scoring.step_models.prm import Prm
from rlstep.tasks.open_ended import OpenEnded
from rlstep.testing.small import small_config
from tests.builders import make_prompt, make_rollout

RECIPE = """\
from rlstep.testing.small import small_config
from rlstep.config import Config, LearnerConfig, ModelConfig
from rlstep.losses.dpo import Dpo
from rlstep.tasks.jsonl import Jsonl
from rlstep.types import Sampling

def config():
    return {}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a recipe that returns an expression, and gives its path."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(expression: str, name: str = "a_recipe.py") -> str:
        (tmp_path / name).write_text(RECIPE.format(expression))
        return str(tmp_path / name)

    yield write
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(file.stem, None)


def small(model: Path) -> str:
    """`small_config` with a policy that is there."""
    return f"small_config(policy=LearnerConfig(model=ModelConfig(path={str(model)!r})))"


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLSTEP_RUN_DIR", str(tmp_path / "kept"))


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of `rlstep ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["rlstep", *arguments])
    try:
        main()
    except SystemExit as end:
        assert isinstance(end.code, int), f"a message for an exit status: {end.code}"
        return end.code
    return 0


# --- usage and recipes ---------------------------------------------------------------------------


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch, "--help") == 0
    assert "rlstep train RECIPE" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("-h",), ("help",), ("train", "--help"), ("eval", "-h"), ("trian", "--help")]
)
def test_help_wherever_it_is_looked_for(
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert command(monkeypatch, *arguments) == 0
    assert "rlstep train RECIPE" in capsys.readouterr().out


def test_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch) == 2
    assert "rlstep train RECIPE" in capsys.readouterr().err


def test_unknown_recipe_names_the_nearest(
    recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = recipe("small_config()")
    wrong = path.replace("a_recipe", "a_recpie")
    assert command(monkeypatch, "train", wrong, "--dry-run") == 2
    assert f"{wrong}: no such recipe; the nearest is {path}" in capsys.readouterr().err


def test_unknown_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert command(monkeypatch, "train", "/nowhere/x.py") == 2
    assert "/nowhere/x.py: no such recipe" in capsys.readouterr().err


def test_a_recipe_without_config(
    tmp_path: Path, recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "empty.py").write_text("conf = 3\n")
    assert command(monkeypatch, "train", str(tmp_path / "empty.py")) == 2
    assert "it has no function config()" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.py", "import no_such_module", "gone.py, line 1: ModuleNotFoundError: No module"),
        ("gone.py", "\nfrom rlstep import Nope", "gone.py, line 2: ImportError: cannot import"),
        ("bad.py", "x = 1\ndef config(:", "bad.py, line 2: SyntaxError: invalid syntax"),
        ("bad.py", "def config():\nreturn 1", "bad.py, line 2: IndentationError"),
        ("raises.py", "1 / 0", "raises.py, line 1: ZeroDivisionError"),
        ("raises.py", "def config():\n    return {}['a']", "raises.py, line 2: KeyError: 'a'"),
        ("raises.py", "def config():\n    open('no-file')", "line 2: FileNotFoundError"),
        ("raises.py", "assert 0, 'one\\ntwo'", "raises.py, line 1: AssertionError: one"),
        ("three.py", "def config():\n    return 3", "config() returns int, it must return"),
        ("none.py", "def config():\n    pass", "config() returns NoneType, it must return"),
        ("recipe.md", "# words", "recipe.md: a recipe is a Python file, like recipe.py"),
        ("recipe", "", "recipe: a recipe is a Python file, like recipe.py"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_recipe_that_cannot_be_read_is_one_line_that_names_the_place(
    verb: str,
    name: str,
    text: str,
    message: str,
    recipe,  # takes what was loaded out of sys.modules again
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    assert command(monkeypatch, verb, str(tmp_path / name)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("rlstep: ") and message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_folder_is_no_recipe_and_what_it_has_is_named(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    recipe("small_config()")
    assert command(monkeypatch, "train", str(tmp_path)) == 2
    assert f"a folder is no recipe; {tmp_path} has ['a_recipe.py']" in capsys.readouterr().err


def test_a_recipe_may_import_its_neighbours_and_define_plug_ins(recipe, tmp_path: Path):
    (tmp_path / "a_neighbour.py").write_text("NAME = 'from-the-neighbour'\n")
    path = recipe("small_config(name=__import__('a_neighbour').NAME)")
    assert load_recipe(path).name == "from-the-neighbour"
    assert sys.modules["a_recipe"].config is not None


# --- values that are refused, before anything starts ---------------------------------------------


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "small_config(iteratons=3)",
            "Config has no field 'iteratons'; the nearest is 'iterations'",
        ),
        ("small_config(loss=Dpo(betta=1))", "Dpo has no field 'betta'; the nearest is 'beta'"),
        (
            "small_config(rollouts=Sampling(max_token=3))",
            "Sampling has no field 'max_token'; the nearest is 'max_tokens'",
        ),
        (
            "small_config(policy=LearnerConfig(model=ModelConfig(path='/x', qqq=1)))",
            "ModelConfig has no field 'qqq'; it has path, dtype, attention, lora,",
        ),
        ("Config(name='x')", "missing 7 required keyword-only arguments: 'task'"),
        ("small_config(iterations='3')", "iterations is '3'; it must be of type int"),
        ("small_config(run_dir='runs')", "run_dir is 'runs'; it must be absolute"),
        (
            "small_config(policy=LearnerConfig(model=ModelConfig(path='/x'), zero_stage=7))",
            "policy.zero_stage is 7; it is one of 0, 1, 2, 3 (nearest: 3)",
        ),
    ],
)
def test_a_bad_value_in_the_recipe(
    expression: str,
    message: str,
    recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert command(monkeypatch, "train", recipe(expression)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_an_unknown_field_is_shown_where_it_stands(
    recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = recipe("small_config(loss=Dpo(betta=1))")
    assert command(monkeypatch, "train", path) == 2
    assert f"{path}, line 8: Dpo has no field" in capsys.readouterr().err


def test_options_override_fields_of_every_depth(
    recipe, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = ("--loss.beta", "0.25", "--rollouts.sampling.max-tokens", "48")
    assert command(monkeypatch, "train", recipe(small(model)), *options, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "beta=0.25" in printed and "max_tokens=48" in printed


def test_eval_makes_no_iterations(
    recipe, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, "eval", recipe(small(model)), "--dry-run") == 0
    assert "iterations=0" in capsys.readouterr().out


def test_an_evaluation_has_a_name_of_its_own(
    recipe,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    given = ("--name", "first", "--run-dir", str(tmp_path / "runs"), "--dry-run")
    for taken, free in (("first", "first-eval"), ("first-eval", "first-eval-2")):
        (tmp_path / "runs" / taken).mkdir(parents=True)
        assert command(monkeypatch, "eval", recipe(small(model)), *given) == 0
        printed = capsys.readouterr().out
        assert f"/runs/{free}\n" in printed and f"name='{free}'" in printed


def test_a_run_given_as_a_model_is_refused(tmp_path: Path):
    run = RunDirectory.create(tmp_path, "first")
    run.config.write_text("{}")
    (run.checkpoints / "iteration-000001").mkdir()
    policy = LearnerConfig(model=ModelConfig(path=str(run.checkpoints)))
    with pytest.raises(ValueError, match=r"has no export.*: rlstep export .*/first"):
        prepare(small_config(policy=policy, run_dir=str(tmp_path)))


# --- the model and the data ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder without weights: a configuration and a tokenizer of three tokens."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<eos>", "<unk>"]
    words = models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), pad_token=tokens[0], eos_token=tokens[1]
    )
    folder = tmp_path_factory.mktemp("models") / "policy"
    tokenizer.save_pretrained(str(folder))
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = {"model_type": "llama", "vocab_size": 3, **small, **heads}
    (folder / "config.json").write_text(json.dumps(model))
    return folder


def without(model: Path, token: str, tmp_path: Path) -> Path:
    """The same folder, its tokenizer without one special token."""
    for file in model.iterdir():
        text = file.read_text()
        if file.name in ("tokenizer_config.json", "special_tokens_map.json"):
            text = json.dumps({k: v for k, v in json.loads(text).items() if k != token})
        (tmp_path / file.name).write_text(text)
    return tmp_path


def test_a_model_that_does_not_exist(model: Path):
    wrong = model.parent / "polcy"
    with pytest.raises(ValueError) as caught:
        load_tokenizer(str(wrong))
    assert f"model.path is {str(wrong)!r}, and there is no such folder" in str(caught.value)
    assert f"did you mean {str(model)!r}?" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("models/nope", ""),
        ("models/polcy", "; did you mean 'models/policy'?"),
        ("models/deep/er/nope", ""),
        ("./nope", ""),
        ("../nope", ""),
        ("~/nope", ""),
        ("/nope", ""),
        ("models/file", ""),
        ("README.md", ""),
    ],
)
def test_a_missing_folder_before_it_is_a_hub_id(
    path: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "models" / "policy").mkdir(parents=True)
    (tmp_path / "models" / "file").touch()
    (tmp_path / "README.md").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        load_tokenizer(path)
    assert str(caught.value).startswith(
        f"model.path is {path!r}, and there is no such folder{hint}"
    )
    assert "loaded" not in str(caught.value)


@pytest.mark.parametrize("names", [[], ["model.bin", "weights"]])
def test_a_folder_that_holds_no_model(names: list[str], tmp_path: Path):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError) as caught:
        load_tokenizer(str(tmp_path))
    assert str(caught.value).endswith(f"it has no config.json, only {names}")


@pytest.mark.parametrize("path", ["nope", "owner/nope"])
def test_a_hub_id_is_a_folder_that_is_missing_too(path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="there is no such folder, and from the hub it cannot be"):
        load_tokenizer(path)


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_a_tokenizer_without_a_needed_token(token: str, model: Path, tmp_path: Path):
    assert load_tokenizer(str(model)).eos_token_id == 1
    with pytest.raises(ValueError, match=f"has no {token}; set tokenizer.{token}"):
        load_tokenizer(str(without(model, token, tmp_path)))


def test_more_tokens_than_embeddings(model: Path, tmp_path: Path):
    folder = without(model, "", tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 2}))
    with pytest.raises(ValueError, match="3 tokens and the model only 2 embeddings"):
        load_tokenizer(str(folder))


def test_a_step_models_model_is_checked_before_anything_starts(model: Path, tmp_path: Path):
    scalar = LearnerConfig(model=ModelConfig(path="/nowhere/prm"), head="token_classification")
    config = small_config(
        policy=LearnerConfig(model=ModelConfig(path=str(model))),
        labellers=(MonteCarlo(),),
        step_models=(Prm(learner=scalar, loss=StepLabelLoss()),),
        run_dir=str(tmp_path / "runs"),
    )
    with pytest.raises(
        ValueError,
        match=r"step_models \(prm\): model\.path is '/nowhere/prm', and there is no such",
    ):
        prepare(config)
    assert not (tmp_path / "runs").exists()


def judged(model: Path, tmp_path: Path, judge: Judge, row: str) -> Config:
    """A run on one open-ended problem."""
    data = tmp_path / "problems.jsonl"
    data.write_text(row + "\n")
    return small_config(
        task=OpenEnded(path=str(data)),
        policy=LearnerConfig(model=ModelConfig(path=str(model))),
        judges=(judge,),
        prompts_per_iteration=1,
        run_dir=str(tmp_path / "runs"),
    )


def test_a_problem_that_nobody_can_decide_is_refused(model: Path, tmp_path: Path):
    judge = ReferenceJudge(model=GeneratorModel())
    with pytest.raises(ValueError, match=r"no reference answer, and none of the 1 judges takes it"):
        prepare(judged(model, tmp_path, judge, '{"prompt": "Sing."}'))
    row = '{"prompt": "Sing.", "scorer": "reference"}'
    with pytest.raises(ValueError, match="has no text under 'reference' in its meta"):
        prepare(judged(model, tmp_path, judge, row))
    assert not (tmp_path / "runs").exists()


def test_a_run_is_not_resumed_on_another_task(model: Path, tmp_path: Path):
    run = RunDirectory.create(tmp_path / "runs", "earlier")
    write_probe(run.probe, [make_rollout("r", [[1]], prompt=make_prompt("1+1"))])
    judge = ReferenceJudge(model=GeneratorModel())
    row = '{"prompt": "Sing.", "scorer": "reference", "reference": "La"}'
    other = replace(judged(model, tmp_path, judge, row), name="earlier", resume=True)
    with pytest.raises(ValueError, match=r"does not hold out, such as '1\+1'"):
        prepare(other)


def test_a_judges_key_is_looked_for_before_anything_starts(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    endpoint = Endpoint(url="http://localhost/v1", model="m", key_variable="JUDGE_KEY")
    row = '{"prompt": "Sing.", "scorer": "reference", "reference": "La"}'
    config = judged(model, tmp_path, ReferenceJudge(model=endpoint), row)
    with pytest.raises(ValueError, match="'JUDGE_KEY', and the environment has no such variable"):
        prepare(config)
    with pytest.raises(ValueError, match="'JUDGE_KEY', and the environment has no such variable"):
        prepare(replace(config, judges=(), labellers=(StepJudge(model=endpoint),)))
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("JUDGE_KEY", "sk-1")
    assert len(prepare(config).prompts.train) == 1


def test_a_missing_model_reaches_the_command_line(
    recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, "train", recipe("small_config()")) == 2
    error = capsys.readouterr().err
    assert "rlstep: policy: model.path is '/nowhere', and there is no such folder" in error


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": "2+2"}', "line 2, field 'answer': missing"),
        ('{"prompt": 3, "answer": "4"}', "line 2, field 'prompt': 3 is no string"),
        ('{"prompt": "2+2", ', "line 2: no JSON in UTF-8"),
    ],
)
def test_a_broken_row_reaches_the_command_line(
    row: str,
    message: str,
    recipe,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    data = tmp_path / "problems.jsonl"
    data.write_text('{"prompt": "1+1", "answer": "2"}\n' + row + "\n")
    path = recipe(
        f"small_config(task=Jsonl(path={str(data)!r}),"
        f" policy=LearnerConfig(model=ModelConfig(path={str(model)!r})))"
    )
    assert command(monkeypatch, "train", path) == 2
    assert f"{data}, {message}" in capsys.readouterr().err


def test_too_few_problems_reach_the_command_line(
    recipe,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    policy = f"LearnerConfig(model=ModelConfig(path={str(model)!r}))"
    path = recipe(f"small_config(policy={policy}, prompts_per_iteration=9)")
    assert command(monkeypatch, "train", path) == 2
    assert "prompts_per_iteration is 9, but the task has only 8" in capsys.readouterr().err


# --- nothing is started --------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "status"), [(["--dry-run"], 0), (["--help"], 0), ([], 2)])
def test_what_ends_early_loads_no_cluster(
    options: list[str],
    status: int,
    recipe,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """The last one has no model, so it ends where roles would be started next. In a process of
    their own the recipes are tried by tests/test_recipes.py."""
    for package in ("ray", "vllm", "deepspeed"):
        monkeypatch.setitem(sys.modules, package, None)  # refuses to be imported
    monkeypatch.setenv("COLUMNS", "100")
    path = recipe(small(model) if options else "small_config()")
    assert command(monkeypatch, "train", path, *options) == status
    if options == ["--dry-run"]:
        out = capsys.readouterr().out
        assert "prompts_per_iteration=2" in out and "policy learner" in out and "GiB" in out


def test_a_recipe_run_as_a_script(model: Path, capsys: pytest.CaptureFixture[str]):
    policy = LearnerConfig(model=ModelConfig(path=str(model)))
    assert run_recipe(lambda: small_config(iterations=7, policy=policy), ["--dry-run"]) == 0
    assert "iterations=7" in capsys.readouterr().out
    assert run_recipe(lambda: small_config(iterations=-7), ["--dry-run"]) == 2
    assert "iterations is -7; the smallest valid value is 0" in capsys.readouterr().err


def test_a_run_knows_what_its_recipe_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[Config] = []
    names: list[str] = []

    def refuse(config: Config, recipe: Config, name: str) -> None:
        given.extend([config, recipe])
        names.append(name)
        raise ValueError("enough")

    monkeypatch.setattr("rlstep.running.run.prepare", refuse)
    assert run_recipe(lambda: small_config(iterations=7), ["--iterations", "9"]) == 2
    assert [config.iterations for config in given] == [9, 7]
    file = tmp_path / "mine.py"
    file.write_text("from rlstep.testing.small import small_config as config\n")
    assert command(monkeypatch, "train", str(file)) == 2
    assert names == ["test_cli", "mine"]
