"""What a learner's look at itself costs: time of `train` with one over that without.

    python tests/bench/statistics_cost.py [--pairs 20] [--json FILE]

One learner of the shipped policy, with and without `statistics_every` 1 in turn over the same
samples: pairs (a look is one forward, since a pair loss needs the logprobs from before anyway)
and a policy gradient with one update (two forwards). A look at every N-th batch costs 1/N of that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.interfaces import Loss
from rlstep.losses.dpo import Dpo
from rlstep.losses.kl import Kl
from rlstep.losses.ppo import Ppo
from rlstep.types import Samples

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, from wherever
from tests.actors.learner.learner_kit import running
from tests.bench.learner import advantage_samples, pair_samples

POLICY = Path(__file__).parents[2] / "recipes" / "policies" / "arithmetic"
VOCABULARY, WARM_UP = 24, 2


def compare(config: LearnerConfig, loss: Loss, samples: Samples, pairs: int) -> dict[str, float]:
    """Medians in seconds, and of their ratio; of a look at the weights alone as well."""
    rows = []
    with running(config, loss) as worker:
        for number in range(WARM_UP + pairs):
            took = {}
            for every in (number % 2, 1 - number % 2):  # each side goes first half of the time
                worker.config = replace(config, statistics_every=every)
                took[every] = worker.train(samples)["seconds"]
            rows.append((took[1], took[0]))
        assert worker.watch is not None
        begin = time.perf_counter()
        worker.watch.look(worker.device)
        weights = time.perf_counter() - begin
    rows = rows[WARM_UP:]
    return {
        "ratio": statistics.median(a / b for a, b in rows),
        "with": statistics.median(a for a, _ in rows),
        "without": statistics.median(b for _, b in rows),
        "weights_alone": weights,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a learner's look at itself")
    parser.add_argument("--pairs", type=int, default=20, help="timed pairs of batches per loss")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    config = LearnerConfig(
        model=ModelConfig(path=str(POLICY)),
        optimizer=OptimizerConfig(learning_rate=1e-6),
        threads=1,
    )
    cases = {
        "pairs": (Dpo(), pair_samples(VOCABULARY)),
        "gradient": (Ppo(kl=Kl(coefficient=0.0)), advantage_samples(VOCABULARY)),
    }
    found = {
        name: compare(config, loss, samples, options.pairs)
        for name, (loss, samples) in cases.items()
    }
    print(f"{'loss':10} {'with, s':>9} {'without, s':>11} {'ratio':>7} {'weights alone, s':>17}")
    for name, row in found.items():
        print(
            f"{name:10} {row['with']:9.4f} {row['without']:11.4f} {row['ratio']:7.3f}"
            f" {row['weights_alone']:17.4f}"
        )
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
