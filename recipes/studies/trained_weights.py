"""What an update changes and how: SGD-SaI, scales (SSL, SSB) and LoRA beside AdamW on all weights.

    python recipes/studies/trained_weights.py --out F --tune     every rate, on a seed of its own
    python recipes/studies/trained_weights.py --out F [--seeds 3]

The main job with problems within 22, where it does not end at 100 %: Full-Step-DPO with a PRM that
learns from the policy's own continuations, which is trained alike in all arms. Every (arm, rate,
seed) is a run of its own; one that is complete in `--out` is not run again.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from arithmetic_base import POLICY, TASK, arithmetic, policy, with_prm
from studies.study_base import run_all, standard_error, summary

from rlstep.adapters.adapter import Adapter, NoAdapter
from rlstep.adapters.lora import LoraConfig
from rlstep.adapters.scaling import Ssb, Ssl
from rlstep.config import Config, EvaluationConfig, LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.optimizers.sgd_sai import SgdSai
from rlstep.pairs.outcome import OutcomePairs

TUNING_SEED = 100


def adamw(rate: float, adapter: Adapter | None = None) -> LearnerConfig:
    """AdamW on all weights, or on those of an adapter alone."""
    return replace(
        policy(),
        model=ModelConfig(path=POLICY, adapter=adapter or NoAdapter()),
        optimizer=OptimizerConfig(learning_rate=rate, warmup_updates=4),
    )


def sgd_sai(rate: float) -> LearnerConfig:
    optimizer = SgdSai(learning_rate=rate, weight_decay=0.0, warmup_updates=4)
    return replace(policy(), optimizer=optimizer)


ARMS: dict[str, Callable[[float], LearnerConfig]] = {
    "adamw": adamw,
    "sgd_sai": sgd_sai,
    "lora": lambda rate: adamw(rate, LoraConfig(rank=8)),
    "ssl": lambda rate: adamw(rate, Ssl()),
    "ssb": lambda rate: adamw(rate, Ssb()),
}
RATES = {
    "adamw": (3e-5, 1e-4, 3e-4),
    "sgd_sai": (1e-4, 3e-4, 1e-3),
    "lora": (3e-4, 1e-3, 3e-3),
    "ssl": (3e-3, 1e-2, 3e-2),
    "ssb": (3e-3, 1e-2, 3e-2),
}
"""What `--tune` tries."""
TUNED = {"adamw": 1e-4, "sgd_sai": 3e-4, "lora": 1e-3, "ssl": 3e-3, "ssb": 1e-2}
"""The best of them, but for SGD-SaI: 1e-3 does best on the tuning seed and ruins another one."""


def config() -> Config:
    """One run; the environment variable STUDY_ARM says of which arm, at which rate."""
    arm, rate = os.environ["STUDY_ARM"].split("@")
    return arithmetic(
        "trained-weights",
        task=replace(TASK, limit=22),
        policy=ARMS[arm](float(rate)),
        samples=OutcomePairs(step_source="prm"),
        loss=FullStepDpo(beta=0.1, gamma=2.0),
        evaluation=EvaluationConfig(),
        **with_prm(),
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str
    """Folder of the runs; absolute."""
    seeds: int = 3
    iterations: int = 8
    arms: tuple[str, ...] = tuple(ARMS)
    tune: bool = False
    """Run every rate on the tuning seed instead."""


def main(study: Study) -> None:
    rates = RATES if study.tune else {arm: (rate,) for arm, rate in TUNED.items()}
    seeds = [TUNING_SEED] if study.tune else range(study.seeds)
    names = [f"{arm}@{rate:g}" for arm in study.arms for rate in rates[arm]]
    run_all(__file__, study.out, names, seeds, study.iterations)
    print(f"{'arm@rate':16} {'seeds':>5} {'start':>7} {'accuracy':>8} {'+-':>6} {'seconds':>8}")
    for name in names:
        runs = [summary(Path(study.out) / f"{name}-{seed}") for seed in seeds]
        found = [run for run in runs if run is not None]
        start, end, seconds = (
            np.array([run[key] for run in found])
            for key in ("eval_accuracy_start", "eval_accuracy_end", "train_seconds")
        )
        error = standard_error(end)
        print(
            f"{name:16} {len(found):5} {start.mean():7.1%} {end.mean():8.1%} {error:6.1%}"
            f" {seconds.mean():8.0f}"
        )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
