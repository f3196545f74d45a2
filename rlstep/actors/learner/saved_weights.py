"""A learner's checkpoint as a Hugging Face folder, in one process: no ranks, no engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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

    model: Any = models.load_model(config, seed=0)
    weights = full_weights(saved / FOLDER)
    try:
        put(model_tensors(model), weights)
    except ValueError as error:
        raise ValueError(
            f"model.path {config.model.path!r} is not the model that {saved} was trained from:"
            f" {error}"
        ) from error
    models.write_folder(model, dict(merged_weights(model)), config.model.path, str(directory))
