"""Peak memory of a diffusion policy's update by the number of its Monte-Carlo maskings.

    PYTHONPATH=. python tests/bench/diffusion.py [--model FOLDER] [--json FILE]

Every number is a process of its own: a learner on random weights (or a folder's), one `train` of
ElboBgpo to warm up, and the peak of a second one over what was resident before it. 'bound' goes
through micro-batches of 2,304 tokens, as any learner does; 'one graph' holds all maskings of the
batch at once, which a gain that does not add up over maskings would need. The gradients are equal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests`, when run as a plain script

import numpy as np

from tests.bench.losses import forget_peak, resident

SAMPLES = (1, 4, 16)
WAYS = {"bound": 64 * 36, "one graph": 1 << 40}
"""Tokens of a micro-batch."""


def batch(sequences: int, length: int) -> Any:
    """Completions of random tokens that end where the canvas does."""
    from rlstep.types import AdvantageSamples, Sequence

    random = np.random.default_rng(0)
    index = np.where(np.arange(length) < 8, -1, 0).astype(np.int32)
    made = tuple(
        Sequence(
            sequence_id=str(i),
            prompt_id=str(i // 8),
            token_ids=random.integers(2, 18, length).astype(np.int32),
            loss_mask=index >= 0,
            step_index=index,
            rollout_logprobs=np.zeros(length, np.float32),
            step_scores=np.zeros(1, np.float32),
            oldest_version=0,
        )
        for i in range(sequences)
    )
    advantages = tuple((s.loss_mask * (-1.0) ** i).astype(np.float32) for i, s in enumerate(made))
    return AdvantageSamples(sequences=made, advantages=advantages, groups=sequences // 8)


def measure(model: str, samples: int, budget: int) -> dict[str, float]:
    """In this process: MiB, and the gradient's norm of the update."""
    from rlstep.actors.learner.diffusion_learner import DiffusionLearner
    from rlstep.config import LearnerConfig, ModelConfig
    from rlstep.losses.elbo_bgpo import ElboBgpo

    config = LearnerConfig(
        model=ModelConfig(path=model),
        head="masked_diffusion",
        elbo_samples=samples,
        packing=False,
        token_budget=budget,
        threads=1,
    )
    learner = DiffusionLearner(
        config, ElboBgpo(), name="policy", rank=0, device="cpu", seed=0, timeout_s=600.0
    )
    learner.join(*learner.address())
    learner.train(batch(8, 36))  # buffers of the optimizer
    rows = batch(64, 36)
    forget_peak()
    before = resident("VmRSS")
    found = learner.train(rows)
    return {"mib": resident("VmHWM") - before, "grad_norm": found["grad_norm"]}


def apart(model: str, samples: int, budget: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--model", model, "--one", f"{samples}", f"{budget}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="peak memory by the number of maskings")
    parser.add_argument("--model", default="", help="a folder; random weights without one")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.model, *options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or _random(folder)
        found = {
            way: {str(n): apart(model, n, budget) for n in SAMPLES} for way, budget in WAYS.items()
        }
    print(f"{'maskings':>9}{'bound, MiB':>12}{'one graph, MiB':>16}{'gradients differ by':>21}")
    for n in map(str, SAMPLES):
        bound, graph = found["bound"][n], found["one graph"][n]
        differ = abs(bound["grad_norm"] / graph["grad_norm"] - 1.0)
        print(f"{n:>9}{bound['mib']:>12.1f}{graph['mib']:>16.1f}{differ:>21.1e}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def _random(folder: str) -> str:
    sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
    from diffusion_base import RandomEncoder

    RandomEncoder().write(folder, seed=0)
    return folder


if __name__ == "__main__":
    main()
