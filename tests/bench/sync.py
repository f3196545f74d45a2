"""Seconds of weight syncs of which every tenth has a parity probe at depth, over syncs without.

One learner and one engine with a tiny model, at several lengths. Ten syncs of either kind are a
pair, whose first kind takes turns, and the ratio is of each pair.

    python tests/bench/sync.py [--seconds 50] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, from wherever

LENGTHS = (128, 512, 1024)


async def _ten(sync: Any, probes: list[Any]) -> float:
    """Seconds of syncs that may ask these probes."""
    from rlstep.actors.weight_sync import DEEP_EVERY

    sync._probes = probes
    started = time.perf_counter()
    for _ in range(DEEP_EVERY):
        sync.version += 1
        await sync._once()
    return time.perf_counter() - started


async def measure(seconds: float) -> dict[int, list[float]]:
    """Per longest sequence the ratios of as many pairs as begin in so long."""
    from rlstep.actors.generator.generator_group import GeneratorGroup
    from rlstep.actors.weight_sync import WeightSync
    from tests.actors.learner.learner_kit import make_model
    from tests.actors.weights.sync_kit import PROBE, generator_config, learner_group

    with tempfile.TemporaryDirectory() as folder:
        path = make_model(Path(folder) / "model", hidden=128)
        lengthened = Path(path, "config.json")
        fields = json.loads(lengthened.read_text()) | {"max_position_embeddings": max(LENGTHS)}
        lengthened.write_text(json.dumps(fields))
        group = GeneratorGroup(generator_config(context=max(LENGTHS), kv_cache_mib=256), path, {})
        await group.start()
        ratios = {}
        async with learner_group(path) as learner:
            for longest in LENGTHS:
                sync = WeightSync(learner, group, PROBE, longest)
                deep, shallow = sync._probes, sync._probes[:1]
                assert len(deep) == 2, "the longest sequence is no longer than the probe"
                await sync.start(0)
                ratios[longest] = []
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    even = len(ratios[longest]) % 2 == 0
                    kinds = (deep, shallow) if even else (shallow, deep)
                    took = {len(probes): await _ten(sync, probes) for probes in kinds}
                    ratios[longest].append(took[2] / took[1])
        await group.close()
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=50.0, help="for each length")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ratios = asyncio.run(measure(arguments.seconds))
    for longest, found in ratios.items():
        print(
            f"longest {longest:5}: {statistics.median(found):.2f} (median of {len(found)} pairs,"
            f" {min(found):.2f} to {max(found):.2f})"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(ratios, indent=2))


if __name__ == "__main__":
    main()
