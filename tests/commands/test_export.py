"""`rlstep export`: a checkpoint as a Hugging Face folder. The runs here were never run; one that
was is in tests/run/test_resume.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlstep.adapters.scaling import Ssb
from rlstep.cli import look
from rlstep.commands.export import _learner, main
from rlstep.config import Config, LearnerConfig, LoraConfig, ModelConfig
from rlstep.losses.gaussian_label import GaussianLabelLoss
from rlstep.losses.step_label import StepLabelLoss
from rlstep.losses.step_likelihood import StepLikelihoodLoss
from rlstep.reporting.describe import describe_config
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.hashing import hash_weights
from rlstep.reporting.learned_from import hash_id, learned
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.exports import writing
from rlstep.scoring.step_models.likelihood_prm import LikelihoodPrm
from rlstep.scoring.step_models.prm import Prm
from rlstep.scoring.step_models.urm import Urm
from rlstep.testing.small import small_config
from tests.run.run_kit import make_policy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_policy(tmp_path_factory.mktemp("model"))


def configured(path: str, rank: int = 0) -> Config:
    model = ModelConfig(path=path, lora=LoraConfig(rank=rank, alpha=8.0))
    return small_config(policy=LearnerConfig(model=model))


async def make_run(
    root: Path,
    config: Config,
    *iterations: int,
    name: str = "first",
    weights: bool = True,
    model: LearnerConfig | None = None,
    source: str = "policy",
    outputs: int = 1,
) -> RunDirectory:
    """A run with checkpoints, whose embeddings are all the iteration's number: of its policy, or of
    another model under its source."""
    import torch
    from safetensors.torch import save_file

    from rlstep.actors.learner.models import load_model
    from rlstep.actors.learner.saved_state import FOLDER, MODEL, STATE, model_tensors

    extra = {} if model is None else {source: 7}
    run = RunDirectory.create(root, name)
    run.config.write_text(json.dumps(describe_config(config)))
    for iteration in iterations:
        state = RunState(iteration=iteration, versions={"policy": iteration + 1} | extra)
        async with Checkpoints(run.checkpoints).writing(state) as folder:
            if weights or model:
                loaded = load_model(model or config.policy, 0, outputs)
                with torch.no_grad():
                    loaded.get_input_embeddings().weight.fill_(float(iteration))  # type: ignore[operator]
                saved = folder / source / FOLDER
                saved.mkdir(parents=True)
                save_file(model_tensors(loaded), saved / MODEL)
                stage = {"format": "rlstep learner 1", "zero_stage": 0}
                (saved / STATE).write_text(json.dumps(stage))
            else:
                (folder / "policy").mkdir()
    return run


def export(root: Path, *words: str) -> int:
    return look("export", [*words, "--run-dir", str(root)])


def embedding(folder: Path) -> float:
    """That of the model in a folder, which has to have all its weights, and a tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert len(AutoTokenizer.from_pretrained(folder)) == 18
    return model.get_input_embeddings().weight[0, 0].item()


@pytest.mark.parametrize("rank", [0, 4])
async def test_any_checkpoint_is_exported(
    model: str, tmp_path: Path, rank: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = await make_run(tmp_path, configured(model, rank), 3, 7)
    assert export(tmp_path, "first") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run.export_of(7))
    assert embedding(run.export_of(7)) == 7.0
    assert export(tmp_path, str(run.path), "--iteration", "3", "--out", f"{tmp_path}/x/y") == 0
    assert embedding(tmp_path / "x" / "y") == 3.0
    assert [line["iteration"] for line in run.models] == [7, 3]
    said = json.loads((tmp_path / "x" / "y" / "lineage.json").read_text())
    assert (said["run"], said["iteration"], said["versions"]) == ("first", 3, {"policy": 4})
    assert said["sha256"] == hash_weights(tmp_path / "x" / "y")
    assert (tmp_path / "x" / "y" / "README.md").read_text().startswith("---\nlibrary_name: ")
    assert not list(run.path.glob("**/.writing-*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("frist",), "run 'frist': no such run or folder; the nearest in {root} is 'first'"),
        (("first", "--iteration", "6"), "no checkpoint of iteration 6; the nearest is 7; there is"),
        (("first", "--iteration", "5"), "the nearest is 7; there is also 3"),
        (("first", "--iteration", "-1"), "the nearest is 3; there is also 7"),
        (("first", "--iteration", "0"), "no checkpoint of iteration 0; the nearest is 3"),
        (("first", "--out", "{root}/first"), "{root}/first exists, and is not written over"),
        (("first", "--out", "{root}/first/config.json"), "config.json exists, and is not written"),
        (("none",), "{root}/none/checkpoints has no checkpoint; a run saves them by"),
        (("none", "--iteration", "3"), "{root}/none/checkpoints has no checkpoint; a run saves"),
        (("damaged",), "{root}/damaged/checkpoints has no valid checkpoint"),
        (("damaged", "--iteration", "2"), "iteration-000002/state.json is {"),
        (("moved",), "model.path is '/nowhere/model', and there is no such folder"),
        (("odd",), "odd/config.json, policy.model: not as a run writes it"),
    ],
)
async def test_what_cannot_be_exported_is_said(
    words: tuple[str, ...],
    message: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = configured(model)
    await make_run(tmp_path, config, 3, 7, weights=False)
    await make_run(tmp_path, config, name="none")
    damaged = await make_run(tmp_path, config, 2, name="damaged", weights=False)
    (damaged.checkpoints / "iteration-000002" / "state.json").write_text("{}")
    await make_run(tmp_path, configured("/nowhere/model"), 2, name="moved", weights=False)
    odd = await make_run(tmp_path, config, 2, name="odd", weights=False)
    odd.config.write_text('{"policy": {"model": {"path": "m", "lora": {"target_modules": 3}}}}')
    before = sorted(tmp_path.rglob("*"))
    assert export(tmp_path, *(word.replace("{root}", str(tmp_path)) for word in words)) == 2
    assert message.replace("{root}", str(tmp_path)) in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_policy_with_other_adapters_is_exported(model: str, tmp_path: Path) -> None:
    adapter = Ssb(target_modules=("q_proj", "down_proj"))
    config = small_config(
        policy=LearnerConfig(model=ModelConfig(path=model, adapter=adapter)),
    )
    run = await make_run(tmp_path, config, 3)
    assert _learner(run.config).model.adapter == adapter
    assert export(tmp_path, "first") == 0
    assert (run.export_of(3) / "model.safetensors").is_file()


async def test_a_file_does_not_say_what_class_is_imported(model: str, tmp_path: Path) -> None:
    config = small_config(policy=LearnerConfig(model=ModelConfig(path=model, adapter=Ssb())))
    run = await make_run(tmp_path, config)
    run.config.write_text(run.config.read_text().replace("scaling.Ssb", "scaling.Ssd"))
    with pytest.raises(ValueError, match=r"is a rlstep.adapters.scaling.Ssd, .* the nearest .*Ss"):
        _learner(run.config)


async def test_an_export_is_never_written_over(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = await make_run(tmp_path, configured(model), 3, weights=False)
    run.export_of(3).mkdir(parents=True)
    (run.export_of(3) / "config.json").write_text("mine")
    assert export(tmp_path, "first") == 2
    assert "exists, and is not written over; name another with --out" in capsys.readouterr().err
    assert (run.export_of(3) / "config.json").read_text() == "mine"


async def test_another_model_under_the_same_path_is_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = await make_run(tmp_path, configured(model, rank=4), 3)
    run.config.write_text(json.dumps(describe_config(configured(model, rank=2))))
    assert export(tmp_path, "first") == 2
    assert f"model.path {model!r} is not the model that" in capsys.readouterr().err
    assert not list(run.path.glob("exports/*"))


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "exports" / "iteration-000001"
    with pytest.raises(RuntimeError, match="half way"), writing(target) as folder:
        (folder / "model.safetensors").write_text("half")
        raise RuntimeError("half way")
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import errno

    target = tmp_path / "export"
    with pytest.raises(DiskFull, match=r"it needs 1,000 bytes") as caught, writing(target, 1000):
        raise OSError(errno.ENOSPC, "no space")
    assert caught.value.filename == str(target) and not target.exists()


def test_a_run_exports_by_cadence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="export_every is -1; the smallest valid value is 0"):
        replace(small_config(), export_every=-1)


@pytest.mark.parametrize("head", ["token_classification", "language_model"])
async def test_a_step_model_is_exported_with_what_it_learned_from(
    model: str, tmp_path: Path, head: str
) -> None:
    """Of a stopped run, too, which leaves no exports/prm."""
    learner = LearnerConfig(model=ModelConfig(path=model), head=head, reference="none")  # type: ignore[arg-type]
    labelling = replace(learner, head="token_classification")
    prm = Prm(learner=labelling, loss=StepLabelLoss())
    asking = replace(learner, head="language_model")
    likelihood = LikelihoodPrm(learner=asking, loss=StepLikelihoodLoss())
    kinds = {"token_classification": prm, "language_model": likelihood}
    config = replace(configured(model), step_models=(kinds[head],), labellers=(MonteCarlo(),))
    run = await make_run(tmp_path, config, 3, weights=False, model=learner, source="prm")
    for iteration, name in ((1, "a"), (3, "b"), (4, "c")):  # the last one after the checkpoint
        run.rollouts.append({"iteration": iteration, "prompt_id": name})
    run.metrics.append({"iteration": 3})
    assert export(tmp_path, "first", "--source", "prm") == 0
    folder = run.exports / "prm-iteration-000003"
    assert learned(folder) == {hash_id("a"), hash_id("b")}
    assert json.loads((folder / "lineage.json").read_text())["versions"] == {"prm": 7}
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    embeddings = next(value for name, value in tensors.items() if "embed_tokens" in name)
    assert float(embeddings[0, 0]) == 3.0
    with pytest.raises(ValueError, match=r"trained no such step model; the nearest is 'prm'"):
        main(["first", "--run-dir", str(tmp_path), "--source", "prmm"])


@pytest.mark.parametrize("rank", [0, 4])
async def test_a_step_model_of_two_outputs_is_exported(
    model: str, tmp_path: Path, rank: int
) -> None:
    """Nothing but its loss, and its weights, say how many there are."""
    trained = ModelConfig(path=model, lora=LoraConfig(rank=rank, alpha=8.0))
    learner = LearnerConfig(model=trained, head="token_classification", reference="none")
    urm = Urm(learner=learner, loss=GaussianLabelLoss())
    config = replace(configured(model), step_models=(urm,), labellers=(MonteCarlo(),))
    kept: dict[str, Any] = {"weights": False, "model": learner, "source": "urm", "outputs": 2}
    run = await make_run(tmp_path, config, 3, **kept)
    assert export(tmp_path, "first", "--source", "urm") == 0
    from transformers import AutoModelForTokenClassification

    folder = run.exports / "urm-iteration-000003"
    loaded: Any = AutoModelForTokenClassification.from_pretrained(folder, output_loading_info=True)
    found, info = loaded
    assert found.num_labels == 2 and not info["missing_keys"] and not info["mismatched_keys"]


async def test_a_step_model_is_exported_with_label_tokens_of_its_own(
    model: str, tmp_path: Path
) -> None:
    """Its tokenizer has no ' +' and ' -', which others have."""
    tokens = ("0", "1")
    learner = LearnerConfig(
        model=ModelConfig(path=model), head="two_token", label_tokens=tokens, reference="none"
    )
    prm = Prm(learner=learner, loss=StepLabelLoss())
    config = replace(configured(model), step_models=(prm,), labellers=(MonteCarlo(),))
    await make_run(tmp_path, config, 3, weights=False, model=learner, source="prm")
    assert export(tmp_path, "first", "--source", "prm") == 0
