"""Generators, learners and requests for the tests of generation and weight sync."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import torch

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.publisher import PublishingLearner
from rlstep.config import GeneratorConfig, LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.types import Completion, Failure, Request, Sampling, TokenIds
from tests.actors.learner.learner_kit import MarginLoss

PROBE: TokenIds = (np.arange(70) % 40 + 3).astype(np.int32)
"""More than two cache blocks of 32."""
LONGEST = 250
"""Nearly as much as the engines' context."""


def generator_config(**fields: Any) -> GeneratorConfig:
    defaults: dict[str, Any] = {
        "replicas": 1,
        "context": 256,
        "kv_cache_mib": 32,
        "concurrency": 64,
    }
    defaults["deadline_s"] = 1800.0  # a busy machine starts four engines in minutes
    return GeneratorConfig(**{**defaults, **fields})  # type: ignore[arg-type]


def learner_config(path: str, **fields: Any) -> LearnerConfig:
    """A large learning rate, so that one update is seen in every logprob."""
    return LearnerConfig(
        model=ModelConfig(path=path, **fields.pop("model", {})),
        optimizer=OptimizerConfig(learning_rate=3e-2),
        threads=1,
        **fields,
    )


def request(name: str, prompt: Sequence[int] | TokenIds, n: int = 1, **sampling: Any) -> Request:
    return Request(
        request_id=name,
        prefix_ids=np.asarray(prompt, dtype=np.int32),
        n=n,
        seed=sampling.pop("seed", 7),
        sampling=Sampling(**{"max_tokens": 16, **sampling}),
    )


def part_of(group: GeneratorGroup, replicas: int) -> GeneratorGroup:
    """The first replicas of a group, as a group."""
    part = GeneratorGroup(group.config, "", {})
    part.epochs = group.epochs[:replicas]
    return part


def both(groups: dict[bool, GeneratorGroup]) -> GeneratorGroup:
    """A group of two replicas; that their weights differ is seen by no test of who is asked."""
    pair = part_of(groups[False], 1)
    pair.epochs = [*pair.epochs, groups[True].epochs[0]]
    return pair


async def answers(
    group: GeneratorGroup, requests: Sequence[Request]
) -> dict[str, tuple[Completion, ...] | Failure]:
    found: dict[str, tuple[Completion, ...] | Failure] = {}
    async for asked, answer in group.generate(requests):
        assert asked.request_id not in found, "answered twice"
        found[asked.request_id] = answer
    return found


async def completions(group: GeneratorGroup, asked: Request) -> tuple[Completion, ...]:
    answer = (await answers(group, [asked]))[asked.request_id]
    assert not isinstance(answer, Failure), answer
    return answer


@asynccontextmanager
async def learner_group(path: str, **fields: Any) -> AsyncIterator[LearnerGroup]:
    group = await LearnerGroup.start(
        learner_config(path, **fields), MarginLoss(), name="policy", seed=0, deadline_s=1200.0
    )
    try:
        yield group
    finally:
        await group.close()


@contextmanager
def local_learner(path: str, **fields: Any) -> Iterator[PublishingLearner]:
    """One rank in this process, whose parts a test can replace."""
    worker = PublishingLearner(
        learner_config(path, **fields),
        MarginLoss(),
        name="policy",
        rank=0,
        device="cpu",
        seed=0,
        timeout_s=600.0,
    )
    worker.join(*worker.address())
    try:
        yield worker
    finally:
        worker.close()


def update(worker: PublishingLearner) -> None:
    """Move every weight by far more than an update would, the same way each time it is called."""
    torch.manual_seed(worker.updates)
    worker.updates += 1
    with torch.no_grad():
        for parameter in worker.engine.module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def parity_error(worker: PublishingLearner, prompt: TokenIds, answer: Completion) -> float:
    """Largest difference between the sampler's logprobs and the learner's, in nats."""
    with torch.no_grad():
        row = worker.predict([np.concatenate([prompt, answer.token_ids])])[0]
    return float(np.abs(row[len(prompt) :] - answer.logprobs).max())
