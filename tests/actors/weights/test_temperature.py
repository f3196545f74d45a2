"""What is sampled at a temperature is trained at it: sampler and learner mean one distribution."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.learner.learner import LearnerWorker
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.weight_sync import WeightSync
from rlstep.losses.kl import Kl
from rlstep.losses.policy_gradient import PolicyGradient
from rlstep.types import AdvantageSamples, Completion, TokenIds
from rlstep.types import Sequence as Trained
from tests.actors.weights.sync_kit import (
    PROBE,
    completions,
    generator_config,
    learner_config,
    request,
)

TEMPERATURE = 0.7
LOSS = PolicyGradient(entropy=0.01, kl=Kl(coefficient=0.1))
PROMPTS = [PROBE[i : i + 5] for i in range(4)]


@asynccontextmanager
async def learner(path: str, temperature: float, **fields: Any) -> AsyncIterator[LearnerGroup]:
    group = await LearnerGroup.start(
        learner_config(path, reference="initial", **fields),
        LOSS,
        name="policy",
        seed=0,
        deadline_s=1200.0,
        temperature=temperature,
    )
    try:
        yield group
    finally:
        await group.close()


@asynccontextmanager
async def tempered_engine(path: str) -> AsyncIterator[GeneratorGroup]:
    group = GeneratorGroup(generator_config(), path, {}, tempered=True)
    await group.start()
    try:
        yield group
    finally:
        for actor in group.actors:
            ray.kill(actor)


def trained(prompt: TokenIds, completion: Completion, name: str) -> Trained:
    ids = np.concatenate([prompt, completion.token_ids])
    own = np.arange(len(ids)) >= len(prompt)
    logprobs = np.zeros(len(ids), np.float32)
    logprobs[own] = completion.logprobs
    return Trained(
        sequence_id=name,
        prompt_id=name,
        token_ids=ids,
        loss_mask=own,
        step_index=np.where(own, 0, -1).astype(np.int32),
        rollout_logprobs=logprobs,
        step_scores=np.zeros(1, np.float32),
        oldest_version=0,
    )


def advantage_samples(sequences: Sequence[Trained]) -> AdvantageSamples:
    rows = tuple(np.where(s.loss_mask, 1.0, 0.0).astype(np.float32) for s in sequences)
    return AdvantageSamples(sequences=tuple(sequences), advantages=rows, groups=len(sequences))


@pytest.mark.slow
async def test_at_a_temperature_sampler_and_learner_agree(
    ray_cluster: None, models: dict[bool, str]
) -> None:
    path = models[False]
    async with tempered_engine(path) as group:
        async with learner(path, TEMPERATURE, mini_batches=2) as policy:
            sync = WeightSync(policy, group, PROBE, 100)
            assert await sync.start(0) <= 1e-4  # greedy, at temperature 1: the probe is what it was
            drawn = [
                (
                    await completions(
                        group, request(f"t/{i}", prompt, max_tokens=24, temperature=TEMPERATURE)
                    )
                )[0]
                for i, prompt in enumerate(PROMPTS)
            ]
            samples = advantage_samples(
                [
                    trained(p, c, f"s{i}")
                    for i, (p, c) in enumerate(zip(PROMPTS, drawn, strict=True))
                ]
            )
            metrics = await sync.update(samples)
            assert metrics["mismatch"] <= 1e-4
            assert metrics["sync/parity_error"] <= 1e-4
        async with learner(path, 1.0) as policy:  # what it was: another distribution
            assert (await policy.train(samples))["mismatch"] > 0.02


@pytest.mark.parametrize("mini_batches", [1, 2])
def test_old_policy_reference_and_entropy_are_of_the_temperature(
    models: dict[bool, str], mini_batches: int
) -> None:
    path = models[True]
    torch.manual_seed(0)
    drawn = np.random.default_rng(0).integers(3, 43, (4, 9)).astype(np.int32)
    bare = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        tempered = (bare(torch.from_numpy(drawn).long()).logits / TEMPERATURE).log_softmax(-1)
    own = tempered[:, :-1].gather(-1, torch.from_numpy(drawn).long()[:, 1:, None])[..., 0].numpy()
    entropy = -(tempered.exp() * tempered).sum(-1)[:, 2:-1].mean()  # of tokens 3 to 8
    sequences = []
    for i, row in enumerate(drawn):
        logprobs = np.append(np.float32(0), own[i])
        one = trained(row[:3], _completion(row[3:], logprobs[3:]), f"s{i}")
        sequences.append(one)
    worker = LearnerWorker(
        replace(learner_config(path, reference="initial", mini_batches=mini_batches)),
        LOSS,
        TEMPERATURE,
        name="policy",
        rank=0,
        device="cpu",
        seed=0,
        timeout_s=600.0,
    )
    worker.join(*worker.address())
    try:
        worker.engine.optimizer.param_groups[0]["lr"] = 0.0
        metrics = worker.train(advantage_samples(sequences))
    finally:
        worker.close()
    assert metrics["mismatch"] <= 1e-5
    if mini_batches == 1:
        assert metrics["policy_change"] <= 1e-10 and metrics["kl"] <= 1e-10
        assert metrics["entropy"] == pytest.approx(float(entropy), abs=1e-5)


def _completion(token_ids: TokenIds, logprobs: np.ndarray) -> Completion:
    from tests.builders import make_completion

    return replace(make_completion(token_ids.tolist()), logprobs=logprobs.astype(np.float32))
