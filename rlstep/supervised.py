"""Supervised training with the learner alone: a first policy, or a PRM from stored labels."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

from rlstep.config import LearnerConfig
from rlstep.interfaces import Loss
from rlstep.types import Samples


def fit(
    config: LearnerConfig,
    loss: Loss,
    batches: Iterable[Samples],
    export: Path,
    *,
    seed: int = 0,
    seconds: float = 0.0,
    report_every: int = 50,
    deadline_s: float = 600.0,
) -> dict[str, float]:
    """Train on one batch of samples after the other, then export a Hugging Face folder.

    Args:
        config: the learner, as in a run.
        loss: takes the kind of samples that `batches` yields.
        batches: one update each (or `mini_batches` times `epochs`, as configured).
        export: the folder to write.
        seconds: stop after this long; 0 takes every batch.
        report_every: batches between two printed lines.
        deadline_s: longest wait for any verb of the learner.

    Returns:
        The last update's metrics, and 'batches' and 'seconds' of the whole training.
    """
    return asyncio.run(_fit(config, loss, batches, export, seed, seconds, report_every, deadline_s))


async def _fit(
    config: LearnerConfig,
    loss: Loss,
    batches: Iterable[Samples],
    export: Path,
    seed: int,
    seconds: float,
    report_every: int,
    deadline_s: float,
) -> dict[str, float]:
    import ray

    from rlstep.actors.learner_group import LearnerGroup

    ray.init(address=os.environ.get("RAY_ADDRESS") or "local", logging_level=logging.WARNING)
    try:
        learner = await LearnerGroup.start(
            config, loss, name="policy", seed=seed, deadline_s=deadline_s
        )
        started = time.monotonic()
        metrics: dict[str, float] = {}
        number = 0
        for number, samples in enumerate(batches, start=1):
            metrics = await learner.train(samples)
            elapsed = time.monotonic() - started
            if number % report_every == 0:
                print(f"batch {number}  loss {metrics['loss']:.4f}  {elapsed:.0f} s", flush=True)
            if 0.0 < seconds <= elapsed:
                break
        await learner.export(str(export))
        await learner.close()
        return {**metrics, "batches": float(number), "seconds": time.monotonic() - started}
    finally:
        ray.shutdown()
