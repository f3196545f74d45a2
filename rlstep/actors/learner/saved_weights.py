"""A learner's checkpoint as a Hugging Face folder, in one process: no ranks, no engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rlstep.config import LearnerConfig


def export_saved(config: LearnerConfig, saved: Path, directory: Path) -> None:
    """Write what `LearnerRank.export` would, of the weights that `LearnerRank.save` left.

    Args:
        config: the learner's, as it was saved: its model's path, dtype and adapters are used.
        saved: what was handed to `LearnerRank.save`.
        directory: the folder to write into.

    Raises:
        ValueError: the model that the learner began as is another one by now; or what was saved
            is not of the format that is written today.
        OSError: a file cannot be read or written.
    """
    os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported
    from rlstep.actors.learner import models
    from rlstep.actors.learner.saved_state import FOLDER, full_weights, model_tensors, put
    from rlstep.actors.weights.merged import merged_weights

    weights = full_weights(saved / FOLDER)
    model: Any = models.load_model(config, seed=0, outputs=_outputs(config, weights))
    try:
        put(model_tensors(model), weights)
    except ValueError as error:
        raise ValueError(
            f"model.path {config.model.path!r} is not the model that {saved} was trained from:"
            f" {error}"
        ) from error
    models.write_folder(model, dict(merged_weights(model)), config.model.path, str(directory))


def _outputs(config: LearnerConfig, weights: Mapping[str, Tensor]) -> int:
    """Numbers a token of a token-classification head: its loss says them, which need not be one
    that this package has, and so do its weights."""
    from rlstep.actors.learner import models
    from rlstep.actors.learner.heads import make_head

    if config.head != "token_classification":
        return 1
    empty = models.empty_model(config.model.path, make_head(config))
    body = f"{empty.base_model_prefix}."
    head = {name.partition(".")[0] for name in empty.state_dict() if not name.startswith(body)}
    sizes = (
        len(weight)
        for name, weight in weights.items()
        if head & set(name.split(".")) and name.endswith("weight") and "lora_" not in name
    )
    return next(sizes, 1)
