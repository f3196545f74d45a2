"""Are problems as hard as was asked? Written by a policy, and drawn exactly; solved by the policy.

    python recipes/studies/asked_difficulty.py --out /data/asked [--json FILE]

The policy is asked for 64 problems of each of 10 difficulties, 1 to 10 operations, under openings
that it was never asked to go on from; those that can be solved and are of the asked difficulty it
then solves 8 times each, beside as many problems that the task drew. Nothing is trained. Each of
the three runs is one of its own; one that is complete in `--out` is not run again.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from questions_base import POLICY, PROBLEMS, WRITING
from studies.study_base import run_all

from rlstep.config import Config, EvaluationConfig, GeneratorConfig, LearnerConfig, ModelConfig
from rlstep.interfaces import PromptSet, SampleBuilder, Task, Tokenizer
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.rollouts.independent import Independent
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine, arithmetic_tokenizer, chain, problem
from rlstep.tasks.arithmetic_writing import WrittenProblem, drawn_problem
from rlstep.types import Group, LabelSamples, Sampling

EACH = 64
"""Problems of a difficulty."""


@dataclass(frozen=True, kw_only=True)
class Nothing(SampleBuilder):
    """Trains on no sample."""

    makes = LabelSamples

    def samples(self, groups: Sequence[Group]) -> LabelSamples:
        return LabelSamples(sequences=(), targets=(), weights=())


@dataclass(frozen=True, kw_only=True)
class Asked(Task):
    """The held-out prompts that ask for a problem, so many of each level."""

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        held_out = WRITING.load(tokenizer, max_prompt_tokens).evaluation
        return PromptSet(train=held_out[: EACH * WRITING.levels], evaluation=held_out[:8])


@dataclass(frozen=True, kw_only=True)
class ToSolve(Task):
    """The problems of a file, one a line."""

    path: str

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        lines = Path(self.path).read_text().split()
        prompts = [problem(f"{line}\n", tokenizer) for line in lines]
        return PromptSet(train=prompts, evaluation=prompts[:8])


def config() -> Config:
    """The run of STUDY_ARM: 'written', or 'solved-...', whose problems lie in STUDY_PROBLEMS."""
    path = os.environ.get("STUDY_PROBLEMS", "")
    writing = os.environ["STUDY_ARM"] == "written"
    return Config(
        name="asked-difficulty",
        task=Asked() if writing else ToSolve(path=path),
        verifier=WrittenProblem(problems=PROBLEMS) if writing else AnswerLine(),
        policy=LearnerConfig(model=ModelConfig(path=POLICY), reference="none", threads=1),
        loss=CrossEntropy(),
        samples=Nothing(),
        rollouts=Independent(
            samples_per_prompt=1 if writing else 8, sampling=Sampling(max_tokens=120)
        ),
        splitter=NewlineSplitter(),
        generator=GeneratorConfig(context=160, kv_cache_mib=128),
        evaluation=EvaluationConfig(prm_problems=0),
        max_prompt_tokens=40,
        prompts_per_iteration=(
            EACH * WRITING.levels if writing else len(Path(path).read_text().split())
        ),
        iterations=1,
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str
    """Folder of the runs; absolute."""
    json: str = ""
    """Where to write the table as one object."""


def rows_of(run: Path) -> list[dict[str, Any]]:
    """What the run sampled, a rollout each."""
    return [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]


def exact_problems() -> list[str]:
    """Of each level as many as are asked for, all different."""
    tokenizer = arithmetic_tokenizer()
    rng = np.random.default_rng(0)
    asked = Asked().load(tokenizer, 40).train
    return list(dict.fromkeys(drawn_problem(prompt, PROBLEMS, rng) for prompt in asked))


def ranks(values: Sequence[float]) -> np.ndarray:
    """From 1; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def pass_rates(run: Path) -> dict[str, float]:
    """Share of right samples of every problem."""
    found: dict[str, list[bool]] = {}
    for row in rows_of(run):
        found.setdefault(row["prompt_id"], []).append(row["verdict"] == "correct")
    return {problem: float(np.mean(right)) for problem, right in found.items()}


def table(out: Path) -> dict[str, Any]:
    """By level: asked for, as asked, different ones, pass rates of both; and the correlations of
    the number of operations with the share that is wrong."""
    written = rows_of(out / "written-0")
    rates = {name: pass_rates(out / f"solved-{name}-0") for name in ("written", "exact")}
    found: dict[str, Any] = {"levels": []}
    for level in range(WRITING.levels):
        asked = [row for row in written if row["prompt_id"].startswith(f"{level + 1}=")]
        right = [row["answer"] for row in asked if row["verdict"] == "correct"]
        means = {
            name: float(np.mean([rate[p] for p in rate if operations(p) == level + 1]))
            for name, rate in rates.items()
        }
        row = {"level": level, "asked": len(asked), "as_asked": len(right)}
        found["levels"].append({**row, "different": len(set(right)), "pass_rate": means})
    for name, rate in rates.items():
        wrong = [-row["pass_rate"][name] for row in found["levels"]]
        found[name] = {
            "over_levels": rank_correlation(range(WRITING.levels), wrong),
            "over_problems": rank_correlation(
                [operations(p) for p in rate], [-rate[p] for p in rate]
            ),
            "problems": len(rate),
        }
    return found


def operations(text: str) -> int:
    return len(chain(f"{text}\n")[0])


def show(found: dict[str, Any]) -> None:
    print("operations  as asked  different  pass rate, written  pass rate, exact")
    for row in found["levels"]:
        shares = row["pass_rate"]
        print(
            f"{row['level'] + 1:10} {row['as_asked'] / row['asked']:9.0%} {row['different']:10}"
            f" {shares['written']:19.1%} {shares['exact']:17.1%}"
        )
    for name in ("written", "exact"):
        row = found[name]
        print(
            f"{name}: rank correlation of operations and share wrong {row['over_levels']:.2f} over"
            f" the levels, {row['over_problems']:.2f} over {row['problems']} problems"
        )


def main(study: Study) -> None:
    out = Path(study.out)
    run_all(__file__, study.out, ["written"], [0], 1)
    right = [row["answer"] for row in rows_of(out / "written-0") if row["verdict"] == "correct"]
    for name, problems in {
        "written": list(dict.fromkeys(right)),
        "exact": exact_problems(),
    }.items():
        file = out / f"{name}.txt"
        file.write_text("\n".join(problems))
        os.environ["STUDY_PROBLEMS"] = str(file)
        run_all(__file__, study.out, [f"solved-{name}"], [0], 1)
    found = table(out)
    show(found)
    if study.json:
        Path(study.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
