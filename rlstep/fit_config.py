"""The configuration of a supervised training: one model, labels that are there, no rollouts."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.checks import at_least, check_types
from rlstep.config import SCORE_HEADS, check_of_head
from rlstep.interfaces import Examples, Loss, Sink, StartModel
from rlstep.learner_config import LearnerConfig
from rlstep.reporting.sinks.usual import USUAL


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """One supervised training: `rlstep sft` of a policy, `rlstep fit` of a model that scores."""

    name: str
    """Of the run; its directory is <run_dir>/<name>."""
    learner: LearnerConfig
    """The model, its optimizer and its ranks."""
    loss: Loss
    """What is minimised."""
    examples: Examples
    """What it is trained on, and measured on."""
    start: StartModel | None = None
    """Where learner.model.path is '': writes the model to begin with, to <run>/start."""
    iterations: int = 20
    """Parts that the training is told in: each ends in a line of metrics. Fewer where the examples
    end before."""
    updates_per_iteration: int = 50
    """Batches of an iteration."""
    train_seconds: float = 0.0
    """Start no iteration after this many seconds of training; 0 sets no limit."""
    evaluation_every: int = 1
    """Iterations between two measurements of what is held out; 0 measures at the start and the
    end."""
    checkpoint_every: int = 0
    """Iterations between checkpoints; 0 goes by `checkpoint_seconds` alone."""
    checkpoint_seconds: float = 600.0
    """Seconds after which the next whole iteration is saved; 0 goes by `checkpoint_every` alone.
    The training is saved at its end, too, when it is stopped, and when it fails between two
    iterations."""
    checkpoint_keep: int = 2
    """So many of the newest checkpoints stay, at least 2: a damaged one needs a predecessor."""
    gpus: float = 0.0
    """Of each rank."""
    sinks: tuple[Sink, ...] = USUAL
    """Where metrics go, closed the last one first. A sink that fails ends no training."""
    seed: int = 0
    """Of everything random: the order of the examples, new heads and adapters."""
    run_dir: str = ""
    """Absolute. Empty: the environment variable RLSTEP_RUN_DIR, or a default that is printed."""
    resume: bool = False
    """Continue from the newest valid checkpoint of the run with this name."""
    deadline_s: float = 600.0
    """Longest wait for any verb of the learner."""

    def __post_init__(self) -> None:
        check_types(self, "")
        for name in ("evaluation_every", "checkpoint_every", "checkpoint_seconds"):
            at_least(name, getattr(self, name), 0)
        for name in ("train_seconds", "seed", "gpus"):
            at_least(name, getattr(self, name), 0)
        for name in ("iterations", "updates_per_iteration"):
            at_least(name, getattr(self, name), 1)
        at_least("checkpoint_keep", self.checkpoint_keep, 2)
        at_least("deadline_s", self.deadline_s, 1.0)
        if self.loss.takes is not self.examples.makes:
            raise ValueError(
                f"loss {type(self.loss).__name__} takes {self.loss.takes.__name__}, but examples"
                f" {type(self.examples).__name__} makes {self.examples.makes.__name__}"
            )
        check_of_head(self.loss, self.learner.head, field="learner.head")
        if not self.learner.model.path and self.start is None:
            raise ValueError(
                "learner.model.path is ''; name a folder or a hub id, or give start=, which writes"
                " a model to begin with"
            )
        if self.run_dir and not self.run_dir.startswith("/"):
            raise ValueError(f"run_dir is {self.run_dir!r}; it must be absolute, like /data/runs")

    @property
    def scores(self) -> bool:
        """Whether the model scores, and is no policy."""
        return self.learner.head in SCORE_HEADS
