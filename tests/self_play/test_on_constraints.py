"""Self-play on the task itself, by a policy of mixed quality that is no model: answers that forget
a constraint, a judge that errs, refinements that sometimes fail; and the figures of such a run."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from random import Random

import pytest

from recipes.constraints_base import JUDGE, REFINE
from recipes.constraints_worked import altered, careful, careless, refined
from recipes.studies.self_play_figures import Options, accepted, figures, main
from rlstep.pairs.accepted import AcceptedPairs
from rlstep.reporting.rows import rollout_rows
from rlstep.rollouts.independent import Independent
from rlstep.scoring.answers.constraints_met import ConstraintsMet, violated
from rlstep.scoring.judges.generator_model import GeneratorModel
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.self_play.search import BreadthFirst, DepthFirst, TreeSearch
from rlstep.self_play.self_refine import Refiner, SelfRefine
from rlstep.tasks.constraints import BETWEEN, Constraints
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeScorer, fake_context
from rlstep.types import Group, Sampling

PROMPTS = Constraints(train=6, evaluation=0).load(TOKENIZER, 256).train
EXAMPLES = {prompt.meta["problem"]: prompt.answer for prompt in PROMPTS}
SHORT = Sampling(max_tokens=64)


def write(prefix: str, child: int, seed: int) -> str:
    """Careless in 6 of 10 answers; a vote is wrong in 2 of 10, a refinement any edit in 4 of 10."""
    rng = Random(seed + child)
    shown = re.findall(r"<(?:problem|solution)-\w+>\n(.*?)\n</", prefix, re.DOTALL)
    problem, *answer = shown or [prefix.strip()]
    constraints, example = problem.split(BETWEEN), EXAMPLES[problem]
    if prefix.startswith("judge"):
        right = not violated(constraints, answer[0])
        return f"Verdict: {'CORRECT' if right == (rng.random() < 0.8) else 'WRONG'}"
    if prefix.startswith("refine"):
        failing = rng.random() < 0.4 or not violated(constraints, answer[0])
        return (altered(answer[0], rng) if failing
                else refined(constraints, answer[0], example, rng))  # fmt: skip
    if rng.random() < 0.6:
        return careless(constraints, example, len(constraints) - 1, rng)
    return careful(constraints, example, rng)


def plan(search: TreeSearch, budget: int) -> SelfRefine:
    return SelfRefine(
        base=Independent(samples_per_prompt=5, sampling=SHORT),
        judge=OutcomeJudge(model=GeneratorModel(sampling=SHORT), votes=5, template=JUDGE),
        refiner=Refiner(question=REFINE, sampling=SHORT),
        search=search,
        originals=5,
        budget=budget,
    )


@cache
def cached(search: TreeSearch, budget: int) -> list[tuple[Group, int]]:
    return []


async def played(search: TreeSearch, budget: int) -> list[tuple[Group, int]]:
    """The groups, each with the generations of its searches."""
    found = cached(search, budget)
    if not found:
        generator = FakeGenerator(write)
        context = fake_context(generator, FakeScorer(verifier=ConstraintsMet()))
        async for group in plan(search, budget).collect(PROMPTS, context):
            own = [r for r in generator.asked if r.request_id.startswith(f"0/{_id(group)}/")]
            found.append((group, sum(r.n for r in own if "/refine" in r.request_id)))
    return found


def _id(group: Group) -> str:
    return group.prompt.prompt_id


@pytest.mark.parametrize("search", [BreadthFirst(), DepthFirst()], ids=["breadth", "depth"])
async def test_pairs_are_nearer_than_answers_at_random(search: TreeSearch, tmp_path: Path) -> None:
    groups = [group for group, _ in await played(search, 1000)]
    rows = list(rollout_rows(1, groups))
    found = figures(rows, votes=5, above=0.5)
    assert found.accepted >= 8
    print(f"edit distance: pairs {found.pair_distance:.2f}, random {found.random_distance:.2f}")
    assert found.pair_distance < found.random_distance
    # A vote that is right in 8 of 10 makes a majority of five that is in 94 of 100.
    assert found.judge_right > 0.85 and found.accepted_right > 0.7
    made = AcceptedPairs().samples(groups)
    assert {(p.chosen_score, p.rejected_score) for p in made.pairs} <= {
        (a / 5, b / 5) for a in (3, 4, 5) for b in (0, 1, 2)
    }
    assert len(accepted(rows, 0.5)) == found.accepted >= len(made.pairs)


@pytest.mark.parametrize("budget", [6, 40])
@pytest.mark.parametrize("search", [BreadthFirst(), DepthFirst()], ids=["breadth", "depth"])
async def test_never_more_generations_than_the_budget(search: TreeSearch, budget: int) -> None:
    played_out = await played(search, budget)
    assert max(spent for _, spent in played_out) <= budget
    found = figures(list(rollout_rows(1, [g for g, _ in played_out])), votes=5, above=0.5)
    assert found.most_generations == max(spent for _, spent in played_out)
    assert found.most_generations > budget - 6


async def test_the_same_run_again_is_the_same() -> None:
    first = [group for group, _ in await played(BreadthFirst(), 40)]
    cached.cache_clear()
    again = [group for group, _ in await played(BreadthFirst(), 40)]
    texts = [{r.rollout_id: (r.completion.text, r.scores["judge"]) for g in gs for r in g.rollouts}
             for gs in (first, again)]  # fmt: skip
    assert texts[0] == texts[1]


def test_figures_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def row(name: str, text: str, share: float | None, verdict: str, parent: str | None = None):
        scores = {} if share is None else {"judge": share}
        return {"iteration": 1, "rollout_id": name, "parent": parent, "prompt_id": "p",
                "steps": [{"text": text}], "verdict": verdict, "scores": scores,
                "finish_reason": "stop"}  # fmt: skip

    rows = [
        row("a", "sea sun", 0.2, "wrong"),
        row("b", "moon hill", 0.8, "correct"),
        row("c", "fish", None, "wrong"),  # a tie
        row("d", "sea", 0.4, "correct", "a"),
        row("e", "sea moon", 0.6, "wrong", "d"),
        row("f", "sea hill", 1.0, "correct", "d"),
    ]
    found = figures(rows, votes=5, above=0.5)
    # The judge: a, b, f are right, d and e are not. 'f' is the best that a led to: 'sea hill' for
    # 'sea sun' is one word. At random: a-b two words, a-c three, b-c three (a space is one).
    assert asdict(found) == {
        **{"judged": 5, "judge_right": pytest.approx(3 / 5), "refined": 1, "accepted": 1},
        **{"accepted_right": 1.0, "most_generations": 18, "pair_distance": 1.0},
        "random_distance": pytest.approx(8 / 3),
    }
    (tmp_path / "rollouts.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in [*rows, {"iteration": 1, "failure": "lost"}])
    )
    main(Options(run=str(tmp_path)))
    assert "100.0%           18" in capsys.readouterr().out


def test_the_problems_are_read_back_from_what_is_asked() -> None:
    assert len(EXAMPLES) == 6 == len({replace(p).prompt_id for p in PROMPTS})
