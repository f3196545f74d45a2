"""A learner's checkpoint as a Hugging Face folder, in one process: no ranks, no engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlstep.config import LearnerConfig

TAG = "learner"
"""The one checkpoint in a directory that a learner saved."""


def export_saved(config: LearnerConfig, saved: Path, directory: Path) -> None:
    """Write what `LearnerRank.export` would, of the weights that `LearnerRank.save` left.

    At ZeRO stages 0 to 2 every rank holds all weights, in the checkpoint's one file of the model,
    which is read as tensors and plain values only. At stage 3 they are put together from the ranks'
    float32 copies by DeepSpeed's own reader, which unpickles: only from a directory that is
    trusted, as one that a run goes on from.

    Args:
        config: the learner's, as it was saved: its model's path, dtype and adapters are used.
        saved: what was handed to `LearnerRank.save`.
        directory: the folder to write into.

    Raises:
        ValueError: the model that the learner began as is another one by now.
        OSError: a file cannot be read or written.
    """
    os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported
    from rlstep.actors.learner import models
    from rlstep.actors.weights.merged import merged_weights

    model: Any = models.load_model(config, seed=0)
    try:
        model.load_state_dict(_weights(saved / TAG))
    except RuntimeError as error:  # names and shapes that differ
        reason = str(error).partition("\n\t")[2].partition("\n")[0].strip()
        raise ValueError(
            f"model.path {config.model.path!r} is not the model that {saved} was trained from:"
            f" {reason or error}"
        ) from error
    models.write_folder(model, dict(merged_weights(model)), config.model.path, str(directory))


def _weights(folder: Path) -> dict[str, Tensor]:
    """By the names of the model in the learner, its adapters included."""
    whole = folder / "mp_rank_00_model_states.pt"
    if whole.is_file():
        return torch.load(whole, map_location="cpu", weights_only=True)["module"]
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    found: Any = get_fp32_state_dict_from_zero_checkpoint(str(folder.parent), tag=folder.name)
    return dict(found)
