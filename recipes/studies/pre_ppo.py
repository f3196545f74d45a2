"""Does Pre-PPO's selection pay? The hardest third for their domains, or a random third.

    python recipes/studies/pre_ppo.py --out /data/pre-ppo [--seeds 3] [--quick] [--json FILE]

Arithmetic and logic of mixed difficulty, two domains of one joint policy (`policies/both/base`), by
GRPO. All arms sample every problem once in the first 6 iterations. Then
`pre_ppo` goes on with the third that is hardest for its domain by the verdicts seen so far,
`random` with a random third, `all` with all. They differ in nothing else: policy, problems,
samples, updates. Every (arm, seed) is a run of its own; one that is complete in `--out` is not run
again.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import arithmetic_base
import logic_process_grpo
import numpy as np
from both_base import BASE
from studies.study_base import run_all, standard_error

from rlstep.advantages.group import GroupAdvantages
from rlstep.config import (
    Config,
    EvaluationConfig,
    GeneratorConfig,
    LearnerConfig,
    ModelConfig,
    OptimizerConfig,
)
from rlstep.curriculum.pre_ppo import PrePpo
from rlstep.curriculum.shuffled import Shuffled
from rlstep.interfaces import Curriculum, Task
from rlstep.losses.grpo import Grpo
from rlstep.losses.kl import Kl
from rlstep.losses.means import TokenMean
from rlstep.rollouts.independent import Independent
from rlstep.scoring.answers.by_task import ByTask, VerifierOf
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tasks.logic import ANSWER_LINE
from rlstep.tasks.mixture import Part, TaskMixture
from rlstep.types import Prompt, Sampling

DOMAINS = ("arithmetic", "logic")
BASELINE = "random"


@dataclass(frozen=True, kw_only=True)
class RandomShare(PrePpo):
    """As many prompts as Pre-PPO keeps, drawn once at random, whatever their scores."""

    def ranked(
        self, prompts: Sequence[Prompt], scores: Mapping[str, float], seed: int
    ) -> list[Prompt]:
        order = np.random.default_rng([seed, 3]).permutation(len(prompts))
        return [prompts[i] for i in order]


ARMS: dict[str, Curriculum] = {
    "pre_ppo": PrePpo(share=1 / 3, hard=1.0),
    "random": RandomShare(share=1 / 3, hard=1.0),
    "all": Shuffled(),
}


def levels(task: Any, field: str, sizes: Sequence[int], train: int) -> Task:
    """One task at several sizes, so many problems of each."""
    return TaskMixture(
        parts=tuple(
            Part(name=str(n), task=replace(task, **{field: n}, train=train, evaluation=96))
            for n in sizes
        )
    )


MIXED = TaskMixture(
    parts=(
        Part(
            name="arithmetic",
            task=levels(arithmetic_base.TASK, "operations", (3, 5, 7), train=64),
        ),
        Part(name="logic", task=levels(logic_process_grpo.TASK, "premises", (2, 3), train=96)),
    )
)
"""192 problems of either domain: 6 iterations of 64."""


def config() -> Config:
    """One run; the environment variable STUDY_ARM says of which arm."""
    return Config(
        name="pre-ppo",
        task=MIXED,
        curriculum=ARMS[os.environ["STUDY_ARM"]],
        policy=LearnerConfig(
            model=ModelConfig(path=BASE),
            optimizer=OptimizerConfig(learning_rate=1e-4, warmup_updates=10),
            mini_batches=2,
            threads=1,
        ),
        samples=GroupAdvantages(),
        loss=Grpo(mean=TokenMean(), kl=Kl(coefficient=0.0)),
        rollouts=Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=64)),
        splitter=NewlineSplitter(),
        verifier=ByTask(
            verifiers=(
                VerifierOf(task="arithmetic", verifier=AnswerLine()),
                VerifierOf(task="logic", verifier=ExactAnswer(pattern=ANSWER_LINE)),
            )
        ),
        generator=GeneratorConfig(context=128, kv_cache_mib=128),
        max_prompt_tokens=64,
        prompts_per_iteration=64,
        iterations=16,
        evaluation=EvaluationConfig(),
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str
    """Folder of the runs; absolute."""
    seeds: int = 3
    iterations: int = 16
    """The first 6 are the same in all arms."""
    quick: bool = False
    """One seed of 8 iterations: whether it runs, not what it finds."""
    json: str = ""
    """Where to write the table as one object by arm."""


def held_out(run: Path) -> dict[str, float]:
    """Greedy accuracy after the last iteration, of all problems and by domain."""
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    last = max(row["iteration"] for row in rows)
    right: dict[str, list[bool]] = {}
    for row in (row for row in rows if row["iteration"] == last and row.get("verdict")):
        for name in ("all", row["prompt_id"].partition("/")[0]):
            right.setdefault(name, []).append(row["verdict"] == "correct")
    return {name: sum(found) / len(found) for name, found in right.items()}


def table(study: Study) -> dict[str, dict[str, Any]]:
    """Of each arm the mean accuracy over seeds, and its difference to `random` paired by seed, each
    with its standard error."""
    found = {
        arm: [held_out(Path(study.out) / f"{arm}-{seed}") for seed in range(study.seeds)]
        for arm in ARMS
    }
    rows: dict[str, dict[str, Any]] = {}
    for arm, runs in found.items():
        ends = np.array([each["all"] for each in runs])
        rows[arm] = {"seeds": len(runs), "accuracy": float(ends.mean())}
        rows[arm]["standard_error"] = standard_error(ends)
        rows[arm] |= {d: float(np.mean([each[d] for each in runs])) for d in DOMAINS}
        over = ends - np.array([each["all"] for each in found[BASELINE]])
        rows[arm] |= {"over_random": float(over.mean())}
        rows[arm]["over_random_standard_error"] = standard_error(over)
    return rows


def show(rows: dict[str, dict[str, Any]]) -> None:
    print("arm      seeds        accuracy arithmetic  logic     over random")
    for arm, row in rows.items():
        print(
            f"{arm:8} {row['seeds']:5} {row['accuracy']:7.1%} ± {row['standard_error']:5.1%}"
            f" {row['arithmetic']:10.1%} {row['logic']:6.1%}"
            f" {row['over_random']:+8.1%} ± {row['over_random_standard_error']:.1%}"
        )


def main(study: Study) -> None:
    if study.quick:
        study = replace(study, seeds=1, iterations=8)
    run_all(__file__, study.out, list(ARMS), range(study.seeds), study.iterations)
    rows = table(study)
    show(rows)
    if study.json:
        Path(study.json).write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
