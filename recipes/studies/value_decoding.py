"""Do values pay while decoding? Value-guided decoding and search over steps, against greedy
decoding and best-of-N with the same PRM at equal tokens.

    python recipes/studies/value_decoding.py --out /data/values [--json FILE] [--quick True]

The policy is not trained. For every seed two PRMs learn from the policy's own solutions of training
problems and their continuations, as in the main recipe: one of lines, one of AdaptiveStep's steps,
which end where the policy is unsure (the threshold is pooled over the seed's first 512 solutions).
Then every arm answers the same held-out problems. Tokens are all that the engine sampled, those
thrown away included; those of labels are told apart, since every arm but greedy decoding has them.
What is done lies in `--out` and is not done again.
"""

import asyncio
import difflib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import modular_chain_base
import numpy as np
from arithmetic_base import POLICY, SAMPLING, TASK
from studies.decoding_figures import auc, best_of, matrix, row_of
from studies.decoding_roles import Roles

from rlstep.checks import between
from rlstep.interfaces import RolloutStrategy, StepSplitter, Task
from rlstep.losses.step_label import StepLabelLoss
from rlstep.measuring.aggregate import chain_score
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.step_beam import StepBeam
from rlstep.rollouts.value_guided import ValueGuided
from rlstep.steps.adaptive import AdaptiveStepSplitter, pooled_threshold
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.modular_chain import ModularChain
from rlstep.tensors.labels import Soft, step_labels
from rlstep.types import Rollout, Sampling, Verdict

LINES = NewlineSplitter()
LABELS = MonteCarlo(fraction=0.1)
KINDS = ("lines", "unsure")
"""What the steps of a PRM are."""
PRM_OF = {
    "value_guided": "unsure",
    "value_guided_of_2": "unsure",
    "best_of_steps": "lines",
    "step_beam": "lines",
}
"""Which of them an arm asks."""
TRAINED = 4096
"""Training problems of every ground; no two seeds learn from the same."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A policy and problems for it, solved line by line to an answer line."""

    policy: str
    task: Task
    tokens: int
    """Longest solution."""
    context: int
    """Of the engine."""


GROUNDS = {
    "arithmetic": Ground(policy=POLICY, task=TASK, tokens=SAMPLING.max_tokens, context=128),
    **{
        f"modular-chain-{k}": Ground(
            policy=modular_chain_base.POLICY,
            task=ModularChain(operations=k),
            tokens=4 * k + 8,
            context=modular_chain_base.CONTEXT,
        )
        for k in modular_chain_base.HORIZONS
    },
}


@dataclass(frozen=True, kw_only=True)
class Study:
    out: str
    """Folder of what is done; absolute."""
    ground: str = "arithmetic"
    """One of `GROUNDS`: 'arithmetic', 'modular-chain-16', ..."""
    problems: int = 512
    """Held-out ones."""
    seeds: int = 3
    samples: int = 16
    """Of best-of-N: its curve is by subsets of them."""
    batches: int = 6
    """Of 64 problems with 8 solutions each, that a seed's PRMs learn from."""
    quantile: float = 0.1
    """Share of sampled tokens under the threshold, at which a step ends and a choice is made. The
    shipped policy decides at every tenth token, between two ways to go on; all others are sure."""
    seconds: float = 0.0
    """Begin nothing further after so many; 0 sets no limit."""
    quick: bool = False
    """So little of everything that it says nothing, to see that it works."""
    json: str = ""
    """Where to write the table as one object."""

    def __post_init__(self) -> None:
        if self.ground not in GROUNDS:
            near = difflib.get_close_matches(self.ground, GROUNDS, 1, 0.0)[0]
            raise ValueError(f"ground is {self.ground!r}; the nearest valid value is {near!r}")
        between("batches", self.batches, 1, TRAINED // (64 * self.seeds))

    @property
    def of(self) -> Ground:
        return GROUNDS[self.ground]

    @property
    def shortened(self) -> "Study":
        if not self.quick:
            return self
        out = str(Path(self.out) / "quick")
        return replace(self, out=out, problems=24, seeds=1, samples=4, batches=1)

    def file(self, name: str, seed: int) -> Path:
        """Of a piece of work that is done."""
        return Path(self.out) / f"{name}-{seed}.json"

    def kept(self, kind: str, seed: int, batches: int) -> str:
        """The folder of a PRM that is being fitted, after so many batches."""
        return str(Path(self.out) / f"fitting-{seed}" / f"{kind}-{batches}")

    def prm(self, kind: str, seed: int) -> str:
        """The folder of a PRM."""
        return str(Path(self.out) / f"prm-{kind}-{seed}")


def arms(study: Study, threshold: float) -> dict[str, tuple[RolloutStrategy, StepSplitter]]:
    """What answers the held-out problems, and how it cuts steps."""
    longest = study.of.tokens
    sampling = Sampling(max_tokens=longest)
    greedy = replace(sampling, temperature=0.0)
    unsure = AdaptiveStepSplitter(quantile=0.0, threshold=threshold)
    guided = ValueGuided(sampling=greedy, threshold=threshold, budget=8 * longest)
    steps = StepBeam(sampling=sampling, width=1, candidates=4, budget=16 * longest)
    return {
        "greedy": (Independent(samples_per_prompt=1, sampling=greedy), LINES),
        "samples": (Independent(samples_per_prompt=study.samples, sampling=sampling), LINES),
        "value_guided": (guided, unsure),
        "value_guided_of_2": (replace(guided, candidates=2), unsure),
        "best_of_steps": (steps, LINES),
        "step_beam": (replace(steps, width=2), LINES),
    }


def cut(rollout: Rollout, splitter: StepSplitter) -> Rollout:
    return replace(rollout, steps=splitter.split(rollout.completion))


def write(file: Path, content: Any) -> None:
    """Whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content))
    os.replace(part, file)


# --- what is done --------------------------------------------------------------------------------


async def fit(study: Study, roles: Roles, seed: int, late: Callable[[], bool]) -> None:
    """Both PRMs of a seed, and in <out>/fit-<seed>.json what they cost; batch by batch, each of
    which is kept, until it is late."""
    file = Path(study.out) / f"fitting-{seed}.json"
    state = {"seed": seed, "batches": 0, "threshold": 0.0, "tokens": 0, "seconds": 0.0}
    state = json.loads(file.read_text()) if file.exists() else state
    async with AsyncExitStack() as stack:
        scorer = await roles.scorer(stack, "")
        learners = {
            kind: await roles.learner(stack, study.of.policy, StepLabelLoss(), seed)
            for kind in KINDS
        }
        for kind, learner in learners.items() if state["batches"] else ():
            await learner.restore(study.kept(kind, seed, state["batches"]))
        while state["batches"] < study.batches and not late():
            before, started, state = roles.sampled, time.monotonic(), dict(state)
            state["threshold"] = await fit_batch(study, roles, scorer, learners, state)
            state["batches"] += 1
            state["tokens"] += roles.sampled - before
            state["seconds"] += time.monotonic() - started
            for kind, learner in learners.items():
                await learner.save(study.kept(kind, seed, state["batches"]))
            write(file, state)
        if state["batches"] == study.batches:
            for kind, learner in learners.items():
                await learner.export(study.prm(kind, seed))
            write(study.file("fit", seed), state)


async def fit_batch(
    study: Study, roles: Roles, scorer: Any, learners: dict[str, Any], state: dict[str, Any]
) -> float:
    """Train both PRMs on one batch of solutions, each on labels of its own steps. Returns the
    threshold of unsure tokens, which the first batch decides."""
    batch, seed = state["batches"], state["seed"]
    first = 64 * (study.batches * seed + batch)
    problems = study.of.task.load(roles.tokenizer, study.of.context).train[first : first + 64]
    context = roles.context(scorer, LINES, seed, f"fit{batch}-")
    drawn = Independent(samples_per_prompt=8, sampling=Sampling(max_tokens=study.of.tokens))
    groups = [group async for group in drawn.collect(problems, context)]
    groups.sort(key=lambda group: group.prompt.prompt_id)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    threshold = state["threshold"] or pooled_threshold(
        [rollout.completion for rollout in rollouts], study.quantile
    )
    for kind, splitter in cuts(threshold).items():
        context = roles.context(scorer, splitter, seed, f"fit{batch}-{kind}")
        labelled = await LABELS.label([cut(r, splitter) for r in rollouts], context)
        await learners[kind].train(step_labels(labelled, Soft()))
    return threshold


async def answer(study: Study, roles: Roles, arm: str, seed: int) -> None:
    """One arm's answers, in <out>/<arm>-<seed>.json: of each problem whether it is right (null
    where that failed), for 'samples' of each sample, with the least that either PRM says of it."""
    threshold = json.loads(study.file("fit", seed).read_text())["threshold"]
    strategy, splitter = arms(study, threshold)[arm]
    problems = study.of.task.load(roles.tokenizer, study.of.context).evaluation[: study.problems]
    async with AsyncExitStack() as stack:
        folder = study.prm(PRM_OF[arm], seed) if arm in PRM_OF else ""
        context = roles.context(await roles.scorer(stack, folder), splitter, seed, arm)
        before, started = roles.sampled, time.monotonic()
        groups = {g.prompt.prompt_id: g async for g in strategy.collect(problems, context)}
        seconds = time.monotonic() - started
        rollouts = [groups[problem.prompt_id].rollouts for problem in problems]
        right = [[is_right(rollout) for rollout in of_problem] for of_problem in rollouts]
        done = {"tokens": roles.sampled - before, "seconds": seconds, "right": right}
        if arm == "samples":
            for kind, splitter in cuts(threshold).items():
                scorer = await roles.scorer(stack, study.prm(kind, seed))
                done[kind] = await lowest(scorer, splitter, rollouts)
        else:
            done["right"] = [row[0] if row else None for row in right]
    write(study.file(arm, seed), done)


def cuts(threshold: float) -> dict[str, StepSplitter]:
    """The steps of each kind of PRM."""
    unsure = AdaptiveStepSplitter(quantile=0.0, threshold=threshold)
    return dict(zip(KINDS, (LINES, unsure), strict=True))


def is_right(rollout: Rollout) -> float | None:
    outcome = rollout.outcome
    return None if outcome is None else float(outcome.verdict is Verdict.CORRECT)


async def lowest(
    scorer: Any, splitter: StepSplitter, rollouts: Sequence[Sequence[Rollout]]
) -> list[list[float | None]]:
    """The least of every rollout's step scores."""
    flat = [cut(rollout, splitter) for of_problem in rollouts for rollout in of_problem]
    found = iter([r.step_scores("prm") for r in await scorer.score_steps(flat)])
    return [
        [each and chain_score(each.values, "min") for _ in of_problem for each in [next(found)]]
        for of_problem in rollouts
    ]


async def work(study: Study) -> None:
    """All that is not done yet, one after the other."""
    started = time.monotonic()

    def late() -> bool:
        return 0.0 < study.seconds <= time.monotonic() - started

    roles = Roles(study.of.policy, study.of.context, Path(study.out) / "log")
    pieces = [(name, s) for s in range(study.seeds) for name in ("fit", *arms(study, 0.5))]
    async with AsyncExitStack() as stack:
        for name, seed in pieces:
            if study.file(name, seed).exists() or late():
                continue
            await roles.start(stack)
            print(f"{time.monotonic() - started:6.0f} s  {name} of seed {seed}", flush=True)
            if name == "fit":
                await fit(study, roles, seed, late)
            else:
                await answer(study, roles, name, seed)


# --- the table -----------------------------------------------------------------------------------


def table(study: Study) -> dict[str, Any]:
    """By arm: accuracy, tokens a problem, differences; best-of-N at each arm's tokens and by N."""

    def read(name: str) -> list[dict[str, Any]]:
        return [json.loads(study.file(name, s).read_text()) for s in range(study.seeds)]

    def tokens_of(done: list[dict[str, Any]]) -> float:
        return float(np.mean([one["tokens"] / study.problems for one in done]))

    samples, greedy = read("samples"), matrix(read("greedy"))
    each = tokens_of(samples) / study.samples
    rows = {"greedy": row_of(greedy, tokens_of(read("greedy")), {})}
    for arm, kind in PRM_OF.items():
        done = read(arm)
        n = min(max(tokens_of(done) / each, 1.0), float(study.samples))
        others = np.array([best_of(one, kind, n) for one in samples])
        against = {"greedy": greedy, "best_of_n": others}
        rows[arm] = row_of(matrix(done), tokens_of(done), against) | {
            "prm": kind, "n": n, "best_of_n": float(np.nanmean(others)),
            "seconds": float(np.mean([one["seconds"] for one in done])),
        }  # fmt: skip
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= study.samples]
    for kind in KINDS:
        for n in sizes:
            values = np.array([best_of(one, kind, n) for one in samples])
            rows[f"best of {n}, {kind}"] = row_of(values, n * each, {"greedy": greedy})
    return {
        "rows": rows,
        "label_tokens": tokens_of(read("fit")) * study.problems,
        "thresholds": [one["threshold"] for one in read("fit")],
        "auc": {kind: float(np.mean([auc(one, kind) for one in samples])) for kind in KINDS},
        "pass": float(np.mean([[any(row) for row in one["right"]] for one in samples])),
    }


def show(found: dict[str, Any]) -> None:
    print(f"{'arm':22} {'tokens':>7} {'accuracy':>22} {'over greedy':>24} {'over best of N':>32}")
    for name, row in found["rows"].items():
        low, high = row["interval"]
        line = f"{name:22} {row['tokens']:7.1f} {row['accuracy']:7.1%} [{low:.1%}, {high:.1%}]"
        for other, size in (("greedy", ""), ("best_of_n", "n")):
            if f"over_{other}" in row:
                low, high = row[f"over_{other}_interval"]
                named = f" N {row['n']:.1f}" if size else ""
                line += f"   {row[f'over_{other}']:+7.1%} [{low:+.1%}, {high:+.1%}]{named}"
        print(line)
    print(
        f"a right one among all samples {found['pass']:.1%}; AUC of a sample's least step score"
        f" {', '.join(f'{kind} {value:.3f}' for kind, value in found['auc'].items())}; labels took"
        f" {found['label_tokens']:,.0f} tokens a seed; thresholds"
        f" {', '.join(f'{value:.2f}' for value in found['thresholds'])}"
    )


def main(study: Study) -> None:
    study = study.shortened
    Path(study.out).mkdir(parents=True, exist_ok=True)
    asyncio.run(work(study))
    missing = [
        f"{name}-{seed}"
        for seed in range(study.seeds)
        for name in ("fit", *arms(study, 0.5))
        if not study.file(name, seed).exists()
    ]
    if missing:
        print(f"not done yet: {', '.join(missing)}")
        return
    found = table(study)
    show(found)
    if study.json:
        Path(study.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
