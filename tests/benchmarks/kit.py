"""Files as benchmarks publish them, and scores that a test writes into the steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.interfaces import Benchmark, Case
from rlstep.testing.tokenizer import ByteTokenizer
from rlstep.types import Failure, Rollout, Score, StepScores

TOKENIZER: Any = ByteTokenizer()


def written(path: Path, *rows: dict[str, Any]) -> Path:
    """A list for '.json', else an object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(json.dumps(rows) if path.suffix == ".json" else lines)
    return path


def scored(rollout: Rollout) -> Score:
    """Each step's text ends with its score; '?' is a failure of the whole."""
    texts = [rollout.step_text(k).split()[-1] for k in range(len(rollout.steps))]
    if "?" in texts:
        return Failure(reason="too_long", detail="")
    return StepScores(values=np.array([float(text) for text in texts], np.float32), version=0)


def figures(benchmark: Benchmark) -> dict[str, float]:
    cases: Sequence[Case] = benchmark.cases(TOKENIZER)
    return benchmark.figures(cases, [[scored(r) for r in case.rollouts] for case in cases])
