"""Seconds of an iteration's report beside a sink that fails, over those beside one that works.

    PYTHONPATH=. python tests/bench/sinks.py [--rounds 20]

Both reports go to the run's files, as in every run, and to a second sink: one that takes what it is
given and keeps nothing, or one that raises at every record. 64 groups of 8 rollouts; the two
alternate, each with a directory of its own.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlstep.interfaces import OpenSink, RunStart, Sink
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.testing.small import small_config
from rlstep.types import Group
from tests.builders import make_group, make_rollout


class Silent(Sink):
    def open(self, start: RunStart) -> OpenSink:
        return self  # type: ignore[return-value]

    def iteration(self, record: Mapping[str, float], groups: Sequence[Group]) -> None: ...

    def close(self, summary: Mapping[str, Any]) -> None: ...


class Failing(Silent):
    def iteration(self, record: Mapping[str, float], groups: Sequence[Group]) -> None:
        raise ConnectionError("the service is gone")


def groups() -> list[Group]:
    return [
        make_group(*(make_rollout(f"{g}/{r}", [[7] * 10] * 5, outcome=1.0) for r in range(8)))
        for g in range(64)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    found: dict[str, list[float]] = {"works": [], "fails": []}
    held = groups()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        reporters = {}
        for name, sink in (("works", Silent()), ("fails", Failing())):
            directory = RunDirectory.create(root, name)
            reporter = Reporter(
                directory, small_config(), sinks=(Files(), sink), iterations=options.rounds
            )
            reporters[name] = stack.enter_context(reporter)
        for number in range(options.rounds + 1):
            for name, reporter in reporters.items():
                begun = time.perf_counter()
                reporter.iteration({"iteration": number, "train/loss": 0.5}, held)
                if number:  # the first one warms up
                    found[name].append(time.perf_counter() - begun)
    for name, seconds in found.items():
        print(f"{name}: {1000 * statistics.median(seconds):.2f} ms an iteration")
    ratios = [b / a for a, b in zip(found["works"], found["fails"], strict=True)]
    print(f"fails over works: {statistics.median(ratios):.3f}, median of {len(ratios)} pairs")


if __name__ == "__main__":
    main()
