"""LoRA adapters that travel alone and are applied by vLLM: exact as merged weights, and small."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load, load_file

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.learner.models import load_model
from rlstep.actors.weight_sync import WeightSync
from rlstep.actors.weights.adapter_sender import adapter_files, adapter_tensors
from rlstep.actors.weights.weight_source import LearnerWeights
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from tests.actors.families import make_family
from tests.actors.learner.learner_kit import pair_samples
from tests.actors.weights.sync_kit import (
    LONGEST,
    PROBE,
    completions,
    generator_config,
    learner_group,
    local_learner,
    parity_error,
    request,
)
from tests.actors.weights.test_checkpoint_weights import lora_of, moved

LORA = LoraConfig(rank=4, alpha=8.0)


@pytest.mark.parametrize("family", ["Llama", "Phi3", "Qwen3Moe"])
def test_the_files_are_those_that_peft_writes(tmp_path: Path, family: str) -> None:
    path, lora = make_family(tmp_path / "model", family), lora_of(family)
    model: Any = load_model(LearnerConfig(model=ModelConfig(path=path, lora=lora)), 0)
    moved(model).save_pretrained(tmp_path / "peft")
    files = adapter_files(adapter_tensors(model, torch.float32), lora)
    ours = load(files["adapter_model.safetensors"])
    theirs = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    settings = json.loads(files["adapter_config.json"])
    written = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    settings["target_modules"].sort()
    written["target_modules"].sort()
    assert settings == {name: written[name] for name in settings}
    assert not adapter_tensors(model, torch.float32, keep=False)


def test_an_adapter_is_smaller_than_the_weights_by_its_rank(tmp_path: Path) -> None:
    """One layer of d x d: 2 r d numbers against d d, here 2 * 4 / 128 = 1/16 of it."""
    path = make_family(tmp_path, "Llama", num_key_value_heads=4)
    lora = LoraConfig(rank=4, target_modules=("q_proj",))
    model = load_model(LearnerConfig(model=ModelConfig(path=path, lora=lora)), 0)
    adapters = adapter_tensors(model, torch.bfloat16)
    assert all(tensor.dtype == torch.bfloat16 for tensor in adapters.values())
    merged = {m.name: m.shape for m in LearnerWeights(model, torch.bfloat16).metadata()}
    whole = sum(np.prod(s) for name, s in merged.items() if "q_proj" in name)
    assert sum(tensor.numel() for tensor in adapters.values()) * 16 == whole


@asynccontextmanager
async def serving(path: str) -> AsyncIterator[GeneratorGroup]:
    group = GeneratorGroup(generator_config(transfer="adapter"), path, {}, lora_rank=LORA.rank)
    await group.start()
    try:
        yield group
    finally:
        await group.close()


async def publish(learner: Any, group: GeneratorGroup, version: int, *, clear: bool = True) -> None:
    if clear:
        await group.pause()
    await asyncio.to_thread(learner.publish, version)
    if clear:
        await group.resume()
        group.admit()


async def join(learner: Any, group: GeneratorGroup) -> None:
    await asyncio.to_thread(
        learner.join_generators, group.actors, "adapter", "float32", 1, 60.0, 30.0
    )


@pytest.mark.slow
@pytest.mark.parametrize("clear", [True, False])
async def test_every_version_is_served_exactly(
    ray_cluster: None, models: dict[bool, str], clear: bool
) -> None:
    """Also where nobody clears the caches: keys and values are found by their own adapter alone."""
    path = models[clear]
    async with serving(path) as group:
        with local_learner(path, model={"lora": LORA}) as learner:
            await join(learner, group)
            seen = []
            for version in (1, 2, 3):
                move_adapters(learner)
                await publish(learner, group, version, clear=clear)
                assert await group.versions() == [version]
                for again in ("fills the cache", "reads it"):
                    [answer] = await group.probe(PROBE, 8, f"{version} {again}")
                    assert parity_error(learner, PROBE, answer) <= 1e-4
                    assert [span.version for span in answer.versions] == [version]
                seen.append(answer.logprobs[0])
            assert min(abs(seen[0] - seen[1]), abs(seen[1] - seen[2])) > 1e-3


@pytest.mark.slow
async def test_a_completion_that_lives_through_a_sync_goes_on_with_the_newest_adapter(
    ray_cluster: None, models: dict[bool, str]
) -> None:
    path = models[False]
    async with serving(path) as group:
        with local_learner(path, model={"lora": LORA}) as learner:
            await join(learner, group)
            move_adapters(learner)
            await publish(learner, group, 1)
            asked = request("long", PROBE[:40], max_tokens=150, min_tokens=150)
            running = asyncio.create_task(completions(group, asked))
            version = 1
            while not running.done():  # sync as often as it takes to hit it
                move_adapters(learner)
                version += 1
                await publish(learner, group, version)
                await asyncio.sleep(0)
            [answer] = await running
            spans = answer.versions
            assert len(spans) >= 2, "no sync fell into 150 tokens"
            assert [span.start for span in spans] + [150] == [0] + [span.end for span in spans]
            # Its last tokens are the adapter's that they are labelled with: put that one back.
            while version > spans[-1].version:
                move_adapters(learner, back=True)
                version -= 1
            row = learner.predict([np.concatenate([asked.prefix_ids, answer.token_ids])])[0]
            errors = np.abs(row[40:] - answer.logprobs)
            assert errors[spans[-1].start :].max() <= 1e-3
            assert errors[: spans[0].end].max() > 1e-2


@pytest.mark.slow
async def test_a_lost_replica_is_given_the_newest_adapter(
    ray_cluster: None, models: dict[bool, str]
) -> None:
    path = models[True]
    async with (
        serving(path) as group,
        learner_group(path, model={"lora": LORA}) as learner,
    ):
        sync = WeightSync(learner, group, PROBE, LONGEST)
        await sync.start(0)
        [before] = await group.probe(PROBE, 8, "before")
        await sync.update(pair_samples())
        await sync.update(pair_samples())
        process = psutil.Process(await group.actors[0].process_id.remote())
        process.kill()
        [answer] = await completions(group, request("after", PROBE))
        assert group.recoveries == 1 and await group.versions() == [2]
        assert sync.max_parity_error <= 1e-4
        [after] = await group.probe(PROBE, 8, "after")
        assert np.abs(before.logprobs - after.logprobs).max() > 1e-3
        assert answer.versions[0].version == 2


@pytest.mark.slow
async def test_adapters_that_are_sharded_are_gathered(
    ray_cluster: None, models: dict[bool, str]
) -> None:
    path = models[False]
    async with (
        serving(path) as group,
        learner_group(path, model={"lora": LORA}, zero_stage=3, world_size=2) as learner,
    ):
        sync = WeightSync(learner, group, PROBE, LONGEST)
        await sync.start(0)
        for version in (1, 2):
            metrics = await sync.update(pair_samples())
            assert metrics["sync/parity_error"] <= 1e-4
            assert await group.versions() == [version]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Gemma2", "Gemma3", "Phi3", "Olmo"])
async def test_of_every_family_that_vllm_gives_adapters(
    ray_cluster: None, tmp_path: Path, family: str
) -> None:
    path, lora = make_family(tmp_path, family), lora_of(family)
    arithmetic_tokenizer().save_pretrained(path)
    prompt = (PROBE % 20 + 3).astype(np.int32)  # of its 24 tokens
    model = {"lora": lora, "attention": "eager" if family == "Gemma2" else "sdpa"}
    async with serving(path) as group:
        with local_learner(path, model=model) as learner:
            await join(learner, group)
            for version in (1, 2):
                move_adapters(learner)
                await publish(learner, group, version)
                [answer] = await group.probe(prompt, 8, f"{family} {version}")
                assert parity_error(learner, prompt, answer) <= 1e-4


def move_adapters(learner: Any, *, back: bool = False) -> None:
    """As `update` does, of the adapters alone; or the last such move, undone."""
    if back:
        learner.updates -= 1
    torch.manual_seed(learner.updates)
    with torch.no_grad():
        for parameter in learner.engine.module.parameters():
            if parameter.requires_grad:
                change = 0.1 * torch.randn_like(parameter)
                parameter.add_(-change if back else change)
    if not back:
        learner.updates += 1
