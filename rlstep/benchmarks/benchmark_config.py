"""The configuration of an evaluation of a model that scores: no policy, nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rlstep.checks import at_least, between, check_types
from rlstep.config import SCORE_HEADS, Config
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Benchmark, Sink, StepModel
from rlstep.reporting.sinks.usual import USUAL


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One evaluation of a PRM or a reward model: `rlstep eval` of a recipe that returns this."""

    name: str
    """Of the run; its directory is <run_dir>/<name>-eval (-eval-2, ...)."""
    model: StepModel
    """What is measured, such as `FrozenPrm` or `RewardModel`; it is not trained."""
    benchmarks: tuple[Benchmark, ...]
    """What it is measured on."""
    max_failed_scores: float = 0.05
    """Largest share of a benchmark's scores that may fail; above it the evaluation ends."""
    gpus: float = 0.0
    """Of each rank of the model (or replica of its engine)."""
    sinks: tuple[Sink, ...] = USUAL
    """Where the numbers go, closed the last one first. A sink that fails ends nothing."""
    seed: int = 0
    """Of everything random in loading the model."""
    run_dir: str = ""
    """Absolute. Empty: the environment variable RLSTEP_RUN_DIR, or a default that is printed."""
    deadline_s: float = 600.0
    """Longest wait for the model's scores of one benchmark."""

    def __post_init__(self) -> None:
        check_types(self, "")
        for name in ("seed", "gpus"):
            at_least(name, getattr(self, name), 0)
        at_least("deadline_s", self.deadline_s, 1.0)
        between("max_failed_scores", self.max_failed_scores, 0.0, 1.0)
        if not self.benchmarks:
            raise ValueError("benchmarks is (); name one, such as ProcessBench(path=...)")
        names = [benchmark.name for benchmark in self.benchmarks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"benchmarks has the name {name!r} {names.count(name)} times; each needs one of"
                    " its own (its field 'name')"
                )
        self._check_model()
        if self.run_dir and not self.run_dir.startswith("/"):
            raise ValueError(f"run_dir is {self.run_dir!r}; it must be absolute, like /data/runs")

    def _check_model(self) -> None:
        kind, head = type(self.model).__name__, self.model.learner.head
        if head not in SCORE_HEADS:
            raise ValueError(
                f"model {kind} has the head {head!r}; a benchmark needs scores, of one of"
                f" {SCORE_HEADS}"
            )
        if not self.model.learner.model.path:
            raise ValueError(
                "model.learner.model.path is ''; name the folder of a model that scores, such as"
                " the export of rlstep fit, or a hub id"
            )
        steps = [each.name for each in self.benchmarks if each.knows_first_errors]
        if steps and self.model.of_rollouts:
            raise ValueError(
                f"benchmark {steps[0]!r} needs step scores, and model {kind} scores whole rollouts;"
                " FrozenPrm scores steps"
            )


Recipe: TypeAlias = Config | FitConfig | BenchmarkConfig
"""What a recipe's `config` returns."""
