"""With the learner alone: a first policy or a PRM from stored labels, and what a PRM has seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlstep.config import LearnerConfig
from rlstep.interfaces import Loss
from rlstep.running.cluster import connect
from rlstep.scoring.step_models import advpo
from rlstep.types import LabelSamples, Samples

if TYPE_CHECKING:
    from rlstep.actors.learner.learner_group import LearnerGroup


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


def measure(
    config: LearnerConfig,
    loss: Loss,
    samples: LabelSamples,
    file: Path,
    *,
    seed: int = 0,
    deadline_s: float = 600.0,
) -> None:
    """Write what `AdvPo` must know of the labels that a PRM was trained on.

    Args:
        config: the PRM's learner; its model is the folder that `fit`, or a run, exported.
        loss: the PRM's.
        samples: the labels (see `scoring.advpo.measure`).
        file: the .npz to write.
        deadline_s: longest wait for any verb of the learner.
    """

    async def alone() -> None:
        async with _learner(config, loss, "prm", seed, deadline_s) as learner:
            await advpo.measure(learner, samples, file)

    asyncio.run(alone())


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
    async with _learner(config, loss, "policy", seed, deadline_s) as learner:
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
        return {**metrics, "batches": float(number), "seconds": time.monotonic() - started}


@asynccontextmanager
async def _learner(
    config: LearnerConfig, loss: Loss, name: str, seed: int, deadline_s: float
) -> AsyncIterator[LearnerGroup]:
    """A learner on a Ray of its own (or of RAY_ADDRESS), both ended afterwards."""
    connect({}, log_to_driver=True)
    import ray

    from rlstep.actors.learner.learner_group import LearnerGroup

    try:
        learner = await LearnerGroup.start(
            config, loss, name=name, seed=seed, deadline_s=deadline_s
        )
        yield learner
        await learner.close()
    finally:
        ray.shutdown()
