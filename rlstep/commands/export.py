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
    parser = arguments("export", "The policy of a checkpoint, for transformers and vLLM.")
    parser.add_argument("--iteration", type=int, help="the newest checkpoint without it")
    parser.add_argument("--out", help="the folder to write, or else exports/iteration-N of the run")
    given = parser.parse_args(words)
    run = find_run(given.run, root(given))
    if given.out:
        check_free(Path(given.out))
    checkpoint = Checkpoints(run.checkpoints).at(given.iteration)
    target = Path(given.out) if given.out else run.export_of(checkpoint.state.iteration)
    print(export(run, checkpoint, target))


def export(run: RunDirectory, checkpoint: Checkpoint, target: Path) -> Path:
    """Write the policy of a run's checkpoint to a folder.

    Raises:
        ValueError, DiskFull: see `main`.
    """
    policy, saved = _policy(run.config), checkpoint.path / "policy"
    check_free(target)
    from rlstep.actors.learner.models import check_model
    from rlstep.actors.learner.saved_weights import export_saved

    check_model(policy.model.path)
    size = sum(file.stat().st_size for file in saved.rglob("*"))
    with writing(target, size) as folder:
        try:
            export_saved(policy, saved, folder)
            sign(folder, run, checkpoint.state.iteration, checkpoint.state.versions)
        except FileNotFoundError as error:
            if saved.exists():
                raise
            raise ValueError(
                f"{checkpoint.path} made room for a newer one while it was read: the run goes on;"
                " ask again"
            ) from error
    return target


def _policy(config: Path) -> LearnerConfig:
    """Of the policy's learner what its export needs: the model, as the run's config.json has it.

    Raises:
        ValueError: it is not as a run writes it.
    """
    try:
        written: Mapping[str, Any] = json.loads(config.read_text())["policy"]["model"]
        model = {name: value for name, value in written.items() if name != "class"}
        lora = LoraConfig(**_fields(model.pop("lora")))
        if (other := model.pop("adapter", None)) is not None:  # earlier runs have none
            model["adapter"] = _adapter_class(other["class"])(**_fields(other))
        return LearnerConfig(model=ModelConfig(**model, lora=lora))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{config}, policy.model: not as a run writes it: {error!r}") from error


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
