"""How much of a run's time is useful where engines die: in one of ten iterations, in virtual time.

    python -m tests.faults.useful_time [--iterations 200] [--seeds 3]

Beside it the bound that recoveries alone give: an engine's start, the sync after it and what it had
decoded. With a lag the others go on meanwhile, so that less is lost than the recoveries took.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from random import Random

from tests.faults.checker import violations
from tests.faults.history import History
from tests.faults.virtual_time import run_virtually
from tests.faults.world import Fault, Schedule, recoveries, world

SHARE = 0.1


def compared(lag: int, iterations: int, seed: int) -> tuple[int, float, float]:
    """(engines lost, useful time over total, the bound)."""
    whole = Schedule(lag=lag, iterations=iterations, seed=seed, train_s=30.0, token_s=1.0)
    useful = _seconds(run := run_virtually(world(whole)))
    assert not run.of("fault")
    pace, random = useful / iterations, Random(seed)
    faults, waited = [], 0.0
    for _ in range(iterations):
        waited += pace
        if random.random() < SHARE:
            after, waited = waited * random.random(), 0.0
            faults.append(Fault(kind="kill", replica=random.randrange(3), after=after))
    history = run_virtually(world(replace(whole, faults=faults)))
    assert not violations(history.events, lag=lag, iterations=iterations)
    found = recoveries(history)
    return len(found), useful / _seconds(history), useful / (useful + sum(found))


def _seconds(history: History) -> float:
    trained = history.of("trained")
    return trained[-1]["at"] - history.of("admitted")[0]["at"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"{'lag':>3} {'seed':>4} {'lost':>5} {'useful':>7} {'bound':>7} {'of it':>6}")
    for lag in (0, 1):
        for seed in range(given.seeds):
            lost, useful, bound = compared(lag, given.iterations, seed)
            print(f"{lag:3} {seed:4} {lost:5} {useful:7.3f} {bound:7.3f} {useful / bound:6.3f}")


if __name__ == "__main__":
    main()
