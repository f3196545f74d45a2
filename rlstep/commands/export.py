"""`rlstep export RUN`: a checkpoint of a run as a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlstep.commands.catalog import plugins
from rlstep.commands.show import arguments, root
from rlstep.commands.words import nearest
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig
from rlstep.reporting.card import sign
from rlstep.reporting.learned_from import write_learned
from rlstep.reporting.run_directory import RunDirectory, find_run
from rlstep.running.checkpoint import Checkpoint, Checkpoints
from rlstep.running.exports import check_free, writing


def main(words: Sequence[str]) -> None:
    """Write the folder, and print where it is. Nothing is started, and no GPU is used.

    Raises:
        ValueError: no such run, iteration or model, a damaged checkpoint, or a folder that exists;
            names the nearest.
        DiskFull: there is no room for it.
    """
    parser = arguments("export", "A model of a checkpoint, for transformers and vLLM.")
    parser.add_argument("--iteration", type=int, help="the newest checkpoint without it")
    about = "a step model that was trained, by its source, such as prm; the policy without it"
    parser.add_argument("--source", default="", help=about)
    parser.add_argument("--out", help="the folder to write, or else exports/iteration-N of the run")
    given = parser.parse_args(words)
    run = find_run(given.run, root(given))
    if given.out:
        check_free(Path(given.out))
    if given.source:
        _check_source(run.config, given.source)
    checkpoint = Checkpoints(run.checkpoints).at(given.iteration)
    target = run.export_of(checkpoint.state.iteration)
    if given.source:
        target = target.with_name(f"{given.source}-{target.name}")
    print(export(run, checkpoint, Path(given.out) if given.out else target, given.source))


def export(run: RunDirectory, checkpoint: Checkpoint, target: Path, source: str = "") -> Path:
    """Write a model of a run's checkpoint to a folder.

    Args:
        source: of a step model, whose folder has hashes of the problems that it learned from; '' of
            the policy.

    Raises:
        ValueError, DiskFull: see `main`.
    """
    learner, saved = _learner(run.config, source), checkpoint.path / (source or "policy")
    check_free(target)
    from rlstep.actors.learner.models import check_model
    from rlstep.actors.learner.saved_weights import export_saved

    check_model(learner.model.path)
    size = sum(file.stat().st_size for file in saved.rglob("*"))
    with writing(target, size) as folder:
        try:
            export_saved(learner, saved, folder)
            _write_learned(folder, run, checkpoint, learner, source)
            sign(folder, run, *_when(checkpoint, source), source=source)
        except FileNotFoundError as error:
            if saved.exists():
                raise
            raise ValueError(
                f"{checkpoint.path} made room for a newer one while it was read: the run goes on;"
                " ask again"
            ) from error
    return target


def _when(checkpoint: Checkpoint, source: str) -> tuple[int, Mapping[str, int]]:
    """The iteration, and the versions that a card tells of."""
    state = checkpoint.state
    versions = {source: state.versions.get(source, 0)} if source else state.versions
    return state.iteration, versions


def _write_learned(
    folder: Path, run: RunDirectory, checkpoint: Checkpoint, learner: LearnerConfig, source: str
) -> None:
    if source:
        last = checkpoint.state.iteration
        seen = {row["prompt_id"] for row in run.rollouts if row["iteration"] <= last}
        write_learned(folder, seen, learner.model.path)


def _check_source(config: Path, source: str) -> None:
    """Raises: ValueError: the run trained no step model of that source; names the nearest."""
    models = json.loads(config.read_text()).get("step_models", ())
    trained = [model["source"] for model in models if model.get("loss")]
    if source not in trained:
        near = f"the nearest is {nearest(source, trained)!r}" if trained else "it trained none"
        raise ValueError(f"--source is {source!r}, and the run trained no such step model; {near}")


def _learner(config: Path, source: str = "") -> LearnerConfig:
    """Of a learner what its export needs: model and head, as the run's config.json has them.

    Raises:
        ValueError: it is not as a run writes it.
    """
    try:
        run: Mapping[str, Any] = json.loads(config.read_text())
        learner = run["policy"]
        if source:
            (learner,) = (m["learner"] for m in run["step_models"] if m["source"] == source)
        written: Mapping[str, Any] = learner["model"]
        model = {name: value for name, value in written.items() if name != "class"}
        lora = LoraConfig(**_fields(model.pop("lora")))
        if (other := model.pop("adapter", None)) is not None:  # earlier runs have none
            model["adapter"] = _adapter_class(other["class"])(**_fields(other))
        head: dict[str, Any] = {}
        if source:
            head = {"head": learner["head"], "label_tokens": tuple(learner["label_tokens"])}
        return LearnerConfig(model=ModelConfig(**model, lora=lora), **head)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        where = f"{source or 'policy'}.model"
        raise ValueError(f"{config}, {where}: not as a run writes it: {error!r}") from error


def _fields(adapter: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in adapter.items() if name != "class"}
    return {**fields, "target_modules": tuple(fields["target_modules"])}


def _adapter_class(name: str) -> Any:
    """Only the package's own: a file is not to say what is imported.

    Raises:
        ValueError: there is none of that name.
    """
    known = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in plugins("adapters")}
    if name not in known:
        raise ValueError(
            f"policy.model.adapter is a {name}, which rlstep export does not have; the nearest that"
            f" it has is {nearest(name, known)}, and the run itself exports any"
        )
    return known[name]
