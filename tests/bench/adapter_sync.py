"""Syncs in which LoRA's adapters travel alone, over those of the merged weights: bytes and seconds.

Two engines of one model, a learner each. Ten syncs of either kind are a pair, whose first kind
takes turns, and the ratio of their seconds is of each pair. The parity probe is in both.

    python tests/bench/adapter_sync.py [--seconds 60] [--hidden 512] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, from wherever

RANK, SYNCS, LAYERS = 8, 10, 4


def sent_bytes(path: str) -> dict[str, int]:
    """Of one sync, by kind; from the model itself, so that nothing else is counted."""
    import torch

    from rlstep.actors.learner.models import load_model
    from rlstep.actors.weights.adapter_sender import adapter_files, adapter_tensors
    from rlstep.actors.weights.weight_source import LearnerWeights
    from rlstep.config import LearnerConfig, LoraConfig, ModelConfig

    lora = LoraConfig(rank=RANK)
    model = load_model(LearnerConfig(model=ModelConfig(path=path, lora=lora)), 0)
    files = adapter_files(adapter_tensors(model, torch.float32), lora)
    return {
        "merged": sum(weight.nbytes for _, weight in LearnerWeights(model, torch.float32)),
        "adapter": sum(map(len, files.values())),
    }


async def _seconds(sync: Any) -> float:
    started = time.perf_counter()
    for _ in range(SYNCS):
        sync.version += 1
        await sync._once()
    return (time.perf_counter() - started) / SYNCS


async def _start(stack: AsyncExitStack, path: str, transfer: str) -> Any:
    from rlstep.actors.generator.generator_group import GeneratorGroup
    from rlstep.actors.weight_sync import WeightSync
    from rlstep.config import LoraConfig
    from tests.actors.weights.sync_kit import PROBE, generator_config, learner_group

    rank = RANK if transfer == "adapter" else 0
    group = GeneratorGroup(generator_config(transfer=transfer), path, {}, lora_rank=rank)
    await group.start()
    stack.push_async_callback(group.close)
    learner = await stack.enter_async_context(
        learner_group(path, model={"lora": LoraConfig(rank=RANK)})
    )
    sync = WeightSync(learner, group, PROBE, 0)
    await sync.start(0)
    return sync


async def measure(path: str, seconds: float) -> list[tuple[float, float]]:
    """Seconds of one sync, merged and alone, of as many pairs as begin in so long."""
    async with AsyncExitStack() as stack:
        merged = await _start(stack, path, "rlstep_gloo")
        alone = await _start(stack, path, "adapter")
        pairs: list[tuple[float, float]] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            order = (merged, alone) if len(pairs) % 2 == 0 else (alone, merged)
            took = {sync: await _seconds(sync) for sync in order}
            pairs.append((took[merged], took[alone]))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import ray

    from tests.actors.learner.learner_kit import make_model

    with tempfile.TemporaryDirectory() as folder:
        path = make_model(Path(folder) / "model", hidden=arguments.hidden, layers=LAYERS)
        sizes = sent_bytes(path)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        pairs = asyncio.run(measure(path, arguments.seconds))
    ratios = [alone / merged for merged, alone in pairs]
    print(
        f"bytes of a sync: merged {sizes['merged']:,}, adapters alone {sizes['adapter']:,}"
        f" ({sizes['adapter'] / sizes['merged']:.3f})"
    )
    print(
        f"seconds of a sync: merged {statistics.median(m for m, _ in pairs):.3f}, adapters alone"
        f" {statistics.median(a for _, a in pairs):.3f}; ratio {statistics.median(ratios):.2f}"
        f" (median of {len(ratios)} pairs, {min(ratios):.2f} to {max(ratios):.2f})"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"bytes": sizes, "pairs": pairs}, indent=2))


if __name__ == "__main__":
    main()
