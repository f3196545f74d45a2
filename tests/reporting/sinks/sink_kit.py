"""A short run as sinks see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rlstep.interfaces import Sink
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.testing.small import small_config
from rlstep.types import Group
from tests.builders import make_rollout


def group(iteration: int) -> Group:
    scores = {"prm": [0.5, 0.25]}
    rollout = make_rollout(f"{iteration}/p/0", [[1, 2], [3]], outcome=1.0, scores=scores)
    return Group(prompt=rollout.prompt, rollouts=(rollout,))


def report(
    directory: RunDirectory,
    iterations: range,
    sink: Sink,
    resumed: int | None = None,
    scale: float = 1.0,
) -> Mapping[str, Any]:
    """Every iteration trained and evaluated, to the files and this sink. Returns the summary."""
    sinks = [Files(), sink]
    reporter = Reporter(directory, small_config(), iterations=9, resumed=resumed, sinks=sinks)
    with reporter:
        for iteration in iterations:
            record = {"iteration": iteration, "train/loss": scale * iteration}
            reporter.iteration(record, [group(iteration)])
            reporter.iteration({"iteration": iteration, "eval/accuracy": scale * iteration / 2})
    return json.loads(directory.summary.read_text())
