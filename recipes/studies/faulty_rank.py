"""Does a robust aggregation hold the main job where one of four ranks is wrong?

    python recipes/studies/faulty_rank.py --seeds 1 --out /data/faulty [--iterations 12]

The policy of Full-Step-DPO on arithmetic has four ranks. In `mean_honest` all are right; in the
others one sends its gradient the other way and five times as long, to the mean and to the Flag
Aggregator. Every (arm, seed) is a run of its own; one that is complete in `--out` is not run again.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arithmetic_base import arithmetic, policy, with_prm
from studies.study_base import run_all, summary

from rlstep.aggregation.aggregator import Aggregator
from rlstep.aggregation.flag import Flag
from rlstep.aggregation.mean import Mean
from rlstep.config import Config, EvaluationConfig
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.pairs.outcome import OutcomePairs
from rlstep.testing.faults import OneFaulty, SignFlip

WRONG = SignFlip(times=5.0)
ARMS: dict[str, Aggregator] = {
    "mean_honest": Mean(),
    "mean_faulty": OneFaulty(aggregator=Mean(), fault=WRONG),
    "flag_faulty": OneFaulty(aggregator=Flag(), fault=WRONG),
}


def config() -> Config:
    """One run; the environment variable STUDY_ARM says of which arm."""
    return arithmetic(
        "faulty-rank",
        # Each rank has several micro-batches of a batch, so that their gradients are alike.
        policy=replace(
            policy(), world_size=4, token_budget=1024, aggregation=ARMS[os.environ["STUDY_ARM"]]
        ),
        samples=OutcomePairs(step_source="prm"),
        loss=FullStepDpo(beta=0.1, gamma=2.0),
        evaluation=EvaluationConfig(),
        **with_prm(),
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str
    """Folder of the runs; absolute."""
    seeds: int = 1
    iterations: int = 12
    arms: tuple[str, ...] = tuple(ARMS)


def main(study: Study) -> None:
    run_all(__file__, study.out, study.arms, range(study.seeds), study.iterations)
    print(f"{'arm':14} {'seed':>4} {'start':>6} {'accuracy':>8} {'seconds':>8}")
    for arm in study.arms:
        for seed in range(study.seeds):
            run = summary(Path(study.out) / f"{arm}-{seed}")
            if run is not None:
                start, end = run["eval_accuracy_start"], run["eval_accuracy_end"]
                print(f"{arm:14} {seed:4} {start:6.1%} {end:8.1%} {run['train_seconds']:8.0f}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
