"""What a run left in its directory, read back for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rlstep.measuring.metrics import Record
from rlstep.measuring.monitors import LEARNT
from rlstep.reporting.panels import ALARMS
from rlstep.reporting.reading import Row
from rlstep.reporting.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class AlarmHistory:
    """One figure that is watched, over a run."""

    name: str
    about: str
    figure: float | None
    """Its last value, None where it was never measured."""
    threshold: float | None
    raised: Sequence[int]
    """Iterations in which it was above the threshold."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A field that is not what the recipe says. Values are as JSON writes them, '-' for none."""

    field: str
    recipe: str
    run: str


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run's files but for its rollouts, which are read as they are needed."""

    directory: RunDirectory
    config: Mapping[str, Any]
    recipe: Mapping[str, Any] | None
    """None of a run that was made by a version that did not keep it."""
    versions: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    """None while the run goes on, or where its process was killed."""
    metrics: Sequence[Record]

    @classmethod
    def read(cls, directory: RunDirectory) -> RecordedRun:
        """Raises: ValueError: a file is not what a run writes; names it."""
        config = _json(directory.config)
        return cls(
            directory=directory,
            config=config or {},
            recipe=_json(directory.recipe),
            versions=_json(directory.versions) or {},
            summary=_json(directory.summary),
            metrics=list(directory.metrics),
        )

    @property
    def step_models(self) -> list[str]:
        """Their sources."""
        return [model["source"] for model in self.config.get("step_models", ())]

    @property
    def watched(self) -> str:
        """The source whose scores are watched."""
        return self.config.get("monitors", {}).get("source", "prm")

    @cached_property
    def trained(self) -> list[int]:
        """Iterations with rollouts, in order."""
        found = {int(row["iteration"]) for row in self.metrics if "rollout/rollouts" in row}
        return [number for number in sorted(found) if next(self.rollouts(number), None)]

    def rollouts(self, iteration: int) -> Iterator[Row]:
        return self.directory.rollouts.of_iteration(iteration)

    @cached_property
    def evaluated(self) -> list[int]:
        """Iterations after which held-out completions were kept, in order; 0 is the start."""
        measured = (r for r in self.metrics if any(name.startswith("eval/") for name in r))
        found = {int(row["iteration"]) for row in measured}
        return [number for number in sorted(found) if next(self.evaluations(number), None)]

    def evaluations(self, iteration: int) -> Iterator[Row]:
        return self.directory.evaluations.of_iteration(iteration)

    def column(self, name: str) -> list[float]:
        """A metric's values in order."""
        return [float(row[name]) for row in self.metrics if name in row]

    def alarms(self) -> list[AlarmHistory]:
        """Every figure that is watched, those that were raised first."""
        thresholds = self.config.get("monitors", {}).get("thresholds", {})
        found = []
        for name, about in ALARMS.items():
            # The drift is measured by the evaluation of the PRM, others by the policy's learner.
            metrics = (f"monitor/{name}", f"prm/{name}", LEARNT.get(name, ""))
            figure = next((values for each in metrics if (values := self.column(each))), [])
            raised = [int(r["iteration"]) for r in self.metrics if float(r.get(f"alarm/{name}", 0))]
            alarm = AlarmHistory(
                name=name,
                about=about,
                figure=figure[-1] if figure else None,
                threshold=thresholds.get(name),
                raised=raised,
            )
            found.append(alarm)
        return sorted(found, key=lambda alarm: -len(alarm.raised))

    def failures(self) -> dict[str, int]:
        """How often each reason was counted, in training and in evaluations."""
        found: dict[str, int] = {}
        for row in self.metrics:
            for name, value in row.items():
                if name.startswith(("rollout/failures/", "eval/failures/")):
                    reason = name.split("/", 2)[2]
                    found[reason] = found.get(reason, 0) + int(value)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def differences(self) -> list[Difference]:
        """Fields that are not what the recipe says, in the order of the configuration."""
        recipe, run = dict(flat(self.recipe or {})), dict(flat(self.config))
        names = [*run, *(name for name in recipe if name not in run)]
        return [
            Difference(field=name, recipe=recipe.get(name, "-"), run=run.get(name, "-"))
            for name in names
            if recipe.get(name) != run.get(name)
        ]


def flat(config: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a configuration under its dotted name; what a part is under its own name."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            inner = name if key == "class" else f"{name}.{key}" if name else key
            yield from flat(value, inner or "class")
    elif isinstance(config, list) and any(isinstance(item, Mapping) for item in config):
        for index, item in enumerate(config):
            yield from flat(item, f"{name}.{index}")
    else:
        yield name, config if isinstance(config, str) else json.dumps(config)


def _json(path: Path) -> Any:
    """None where there is no such file."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}; it is no JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: it is no JSON object")
    return found
