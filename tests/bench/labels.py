"""Cost of locating first errors by continuations: exhaustive and naive, cached, adaptive, searched.

    python tests/bench/labels.py [--problems 10] [--quick] [--json FILE]

Wrong chains of 10 steps (40 to 47 tokens each) after prompts of 200 to 231 tokens, 8 continuations
of a prefix at most. Every row is asked for the first wrong step of the same chains:

  naive     each of the 9 x 8 continuations of a chain is a request of its own, prefix caching off,
            on a bare `vllm.LLM` that is given all of them at once (no Ray, no records, no text)
  cached    MonteCarlo through the generator role: equal prefixes once, prefixes cached
  adaptive  AdaptiveMonteCarlo: the same, and the Beta posterior stops the draws of a prefix
  search    FirstErrorSearch with 8 continuations of each prefix it looks at
  both      FirstErrorSearch that stops its draws

Real: the engines, the prefill and decoding of every token, seeds, scheduling and caching; the
chains' text, which is arithmetic padded with tokens that have no text; the oracle, which reads it.
A continuation is as long as what is left of its chain. Synthetic: the weights are random, so no
continuation says anything, and its verdict is a coin that its own seed throws, with the success
rate of a policy that gets each step right that is left (`SKILL`), or of luck after a wrong step
(`LUCK`). Cost does not depend on what the tokens say, and the i-th continuation of a prefix has
the same seed, hence the same verdict, in every row: all rows judge the same continuations, and
`naive` and `cached` must count the same.

Tokens prefilled are prefix tokens minus what vLLM reports as cached. The cache is empty before each
row; both engines have answered before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.actors.generator.generator import (
    engine_arguments,
    engine_environment,
    sampling_parameters,
)
from rlstep.config import GeneratorConfig
from rlstep.interfaces import Answer, GenerateRole, Labeller, RolloutContext
from rlstep.pairs.first_error import first_error
from rlstep.rollouts.adaptive_monte_carlo import AdaptiveMonteCarlo
from rlstep.rollouts.continuations import Tally, prefix_seed, with_counts
from rlstep.rollouts.first_error_search import FirstErrorSearch
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.requests import branch
from rlstep.rollouts.stopping import BetaStopping
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer, worked_solution
from rlstep.tensors.text import decode_with_ends
from rlstep.types import (
    Completion,
    Failure,
    History,
    Observation,
    OutcomeScore,
    Prompt,
    Request,
    Rollout,
    Sampling,
    Step,
    TokenIds,
    Verdict,
    VersionSpan,
)

STEPS, CONTINUATIONS, CHAINS = 10, 8, 4
"""Steps of a chain, continuations of a prefix, chains of a prompt."""
PROMPT_TOKENS, STEP_TOKENS, SPARE_TOKENS, FILLERS = (200, 232), (40, 48), 64, 14
SKILL, LUCK, THRESHOLD = 0.97, 0.03, 0.4
TASK = Arithmetic(operations=STEPS - 1, largest_operand=9, largest_factor=3, limit=99)
CONFIG = GeneratorConfig(context=1024, kv_cache_mib=512, threads=1, deadline_s=1800.0)
STOPPING = BetaStopping(threshold=THRESHOLD, confidence=0.75, batch=2, limit=CONTINUATIONS)
ESTIMATORS: dict[str, Labeller] = {
    "cached": MonteCarlo(continuations=CONTINUATIONS, own_outcome=False),
    # The first low one of nine prefixes is wrong if any before it is: each must be surer.
    "adaptive": AdaptiveMonteCarlo(stopping=replace(STOPPING, confidence=0.9)),
    "search": FirstErrorSearch(stopping=replace(STOPPING, batch=CONTINUATIONS)),
    "both": FirstErrorSearch(stopping=STOPPING),
}
COSTS = ("prefilled", "decoded", "completions", "seconds")
GOAL = {"prefilled": 20.0, "seconds": 5.0, "points": -2.0}
"""Tokens prefilled and wall-clock of `naive` over those of `both`, and the agreement of `both` with
the oracle minus that of `cached`, in points: the least of each."""


# --- chains --------------------------------------------------------------------------------------


def make_model(folder: str) -> Any:
    """Random weights with room for long chains, and the arithmetic tokenizer with fillers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = arithmetic_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<f{i}>" for i in range(FILLERS)]})
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONFIG.context,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


@dataclass(frozen=True)
class Layout:
    """Pads text to a drawn number of tokens with random fillers, so that no two chains share more
    than their prompt by chance."""

    tokenizer: Any
    random: np.random.Generator

    def tokens(self, text: str, length: tuple[int, int]) -> TokenIds:
        """The fillers stand before the last character, which ends a step."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        number = int(self.random.integers(*length)) - len(ids)
        size = len(self.tokenizer)
        fillers = self.random.integers(size - FILLERS, size, number).tolist()
        return np.array([*ids[:-1], *fillers, ids[-1]], np.int32)

    def chain(self, name: str, prompt: Prompt, wrong: int) -> Rollout:
        """A worked solution with a wrong result in step `wrong`, and a wrong answer."""
        texts = worked_solution(prompt, self.random, sloppy=0.0)
        for step in {wrong, STEPS - 1}:
            texts[step] = _off_by_one(texts[step])
        assert TASK.first_error(prompt, texts) == wrong and len(texts) == STEPS
        parts = [self.tokens(text, STEP_TOKENS) for text in texts]
        parts[-1] = np.append(parts[-1], self.tokenizer.eos_token_id).astype(np.int32)
        ends = np.cumsum([len(part) for part in parts]).tolist()
        stops = tuple(range(len(self.tokenizer) // 2, len(self.tokenizer)))
        return Rollout(
            rollout_id=name,
            prompt=prompt,
            completion=_completion(np.concatenate(parts), self.tokenizer),
            steps=tuple(Step(start=a, end=b) for a, b in zip([0, *ends[:-1]], ends, strict=True)),
            sample_index=0,
            iteration=0,
            seed=0,
            # Nothing ends before the chain's length; then every second token is an end.
            sampling=Sampling(
                min_tokens=ends[-1], max_tokens=ends[-1] + SPARE_TOKENS, stop_token_ids=stops
            ),
            scores={"outcome": OutcomeScore(value=0.0, verdict=Verdict.WRONG, extracted="")},
        )


def _off_by_one(text: str) -> str:
    """With one more than the number it ends with."""
    return re.sub(r"\d+(?=\n?$)", lambda value: str(int(value[0]) + 1), text)


def _completion(token_ids: TokenIds, tokenizer: Any) -> Completion:
    text, ends = decode_with_ends(tokenizer, token_ids)
    return Completion(
        token_ids=token_ids,
        logprobs=np.zeros(len(token_ids), np.float32),
        text=text,
        ends=ends,
        finish_reason="stop",
        stop_reason=None,
        versions=(VersionSpan(version=0, start=0, end=len(token_ids)),),
    )


def make_chains(problems: int, tokenizer: Any) -> list[Rollout]:
    """`CHAINS` chains of each problem; first errors go round the steps."""
    layout, task = Layout(tokenizer, np.random.default_rng(0)), replace(TASK, train=problems)
    loaded = task.load(tokenizer, CONFIG.context).train
    prompts = [replace(p, token_ids=layout.tokens(p.text, PROMPT_TOKENS)) for p in loaded]
    return [
        layout.chain(f"0/{prompt.prompt_id}/{i}", prompt, (CHAINS * number + i) % STEPS)
        for number, prompt in enumerate(prompts)
        for i in range(CHAINS)
    ]


# --- verdicts and counting -----------------------------------------------------------------------


def succeeds(prompt: Prompt, kept: Sequence[str], seed: int) -> bool:
    """The coin of one continuation of the steps `kept`."""
    right = TASK.first_error(prompt, kept) is None
    rate = SKILL ** (STEPS - len(kept)) if right else LUCK
    return bool(np.random.default_rng(seed).random() < rate)


class CoinScorer:
    """Verdicts of continuations (the part of `interfaces.ScoreRole` that labels need)."""

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        return [rollout.with_scores(outcome=self._outcome(rollout)) for rollout in rollouts]

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        return list(rollouts)

    async def observe(self, history: History) -> Observation | Failure:
        raise NotImplementedError("no conversations here")

    def leave(self, history: History) -> None:
        raise NotImplementedError("no conversations here")

    def _outcome(self, rollout: Rollout) -> OutcomeScore:
        steps = enumerate(rollout.steps)
        kept = [rollout.step_text(i) for i, step in steps if step.end <= rollout.inherited]
        right = succeeds(rollout.prompt, kept, rollout.seed + rollout.sample_index)
        verdict = Verdict.CORRECT if right else Verdict.WRONG
        return OutcomeScore(value=float(right), verdict=verdict, extracted="")


@dataclass
class Meter:
    """A generator role that counts what goes through it (implements `interfaces.GenerateRole`)."""

    generator: GenerateRole
    prefilled: int = 0
    decoded: int = 0
    completions: int = 0

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Answer]:
        """Each child asked for by itself, as vLLM does inside: only so it says what was cached."""
        asked = {
            f"{r.request_id}#{i}": (
                r,
                i,
                replace(r, request_id=f"{r.request_id}#{i}", n=1, seed=r.seed + i),
            )
            for r in requests
            for i in range(r.n)
        }
        made: dict[str, dict[int, Completion]] = {r.request_id: {} for r in requests}
        children = [child for _, _, child in asked.values()]
        async for child, answer in self.generator.generate(children):
            assert not isinstance(answer, Failure), answer
            request, index, _ = asked[child.request_id]
            [completion] = answer
            assert completion.cached is not None
            self.completions += 1
            self.prefilled += len(request.prefix_ids) - completion.cached
            self.decoded += len(completion.token_ids)
            siblings = made[request.request_id]
            siblings[index] = completion
            if len(siblings) == request.n:
                yield request, tuple(siblings[i] for i in range(request.n))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one estimator cost, and where it saw the first errors."""

    name: str
    prefilled: int
    decoded: int
    completions: int
    seconds: float
    located: list[int]

    def agreement(self, truth: Sequence[int]) -> float:
        """Percentage of chains whose first error is where `truth` has it."""
        return 100.0 * float(np.mean(np.array(self.located) == np.array(truth)))


def locate(labelled: Sequence[Rollout]) -> list[int]:
    """First errors. Where no label shows one it is in the last step, since all chains are wrong."""
    scores = [rollout.step_scores("monte_carlo") for rollout in labelled]
    found = [first_error(each, THRESHOLD) if each is not None else None for each in scores]
    return [STEPS - 1 if error is None else error for error in found]


# --- the rows ------------------------------------------------------------------------------------


def naive(engine: Any, chains: Sequence[Rollout], context: RolloutContext) -> Row:
    """Every continuation by itself on a bare engine."""
    wanted = itertools.product(chains, range(STEPS - 1), range(CONTINUATIONS))
    asked = [(chain, step, _single(chain, step, draw, context)) for chain, step, draw in wanted]
    started = time.perf_counter()
    prompts = [{"prompt_token_ids": request.prefix_ids.tolist()} for _, _, request in asked]
    parameters = [sampling_parameters(request) for _, _, request in asked]
    outputs = engine.generate(prompts, parameters, use_tqdm=False)
    seconds = time.perf_counter() - started
    assert not any(output.num_cached_tokens for output in outputs)
    counts: dict[str, dict[int, Tally]] = {chain.rollout_id: {} for chain in chains}
    for chain, step, request in asked:
        kept = [chain.step_text(i) for i in range(step + 1)]
        right = succeeds(chain.prompt, kept, request.seed)
        tallies = counts[chain.rollout_id]
        tallies[step] = tallies.get(step, Tally()) + Tally(n=1, k=int(right), version=0)
    return Row(
        name="naive",
        prefilled=sum(len(request.prefix_ids) for _, _, request in asked),
        decoded=sum(len(output.outputs[0].token_ids) for output in outputs),
        completions=len(asked),
        seconds=seconds,
        located=locate([with_counts(chain, counts[chain.rollout_id]) for chain in chains]),
    )


def _single(chain: Rollout, step: int, draw: int, context: RolloutContext) -> Request:
    request = branch(chain, step + 1, 1, "naive", chain.sampling, context).request
    return replace(request, seed=prefix_seed(request.prefix_ids, context) + draw)


async def through_the_role(
    name: str, group: Any, chains: Sequence[Rollout], context: RolloutContext
) -> Row:
    """One estimator, its cache empty at the start."""
    await group.pause()
    await group.resume()
    group.admit()
    meter = Meter(group)
    started = time.perf_counter()
    labelled = await ESTIMATORS[name].label(chains, replace(context, generator=meter))
    return Row(
        name=name,
        prefilled=meter.prefilled,
        decoded=meter.decoded,
        completions=meter.completions,
        seconds=time.perf_counter() - started,
        located=locate(labelled),
    )


async def measure(problems: int, folder: str) -> tuple[list[Row], list[int]]:
    """Every row, and the oracle's first errors."""
    import ray
    from vllm import LLM

    from rlstep.actors.generator.generator_group import GeneratorGroup

    chains = make_chains(problems, tokenizer := make_model(folder))
    ray.init(address="local", logging_level=logging.WARNING)
    group = GeneratorGroup(CONFIG, folder, {})
    await group.start()
    engine: Any = LLM(**{**engine_arguments(CONFIG, folder), "enable_prefix_caching": False})
    context = RolloutContext(
        generator=group,
        scorer=CoinScorer(),
        splitter=NewlineSplitter(),
        tokenizer=tokenizer,
        iteration=0,
        seed=0,
    )
    try:
        naive(engine, chains[:1], context)  # warms up
        await through_the_role("cached", group, chains[:1], context)
        rows = [naive(engine, chains, context)]
        for name in ESTIMATORS:
            print(f"{rows[-1].name} took {rows[-1].seconds:.1f} s", flush=True)
            rows.append(await through_the_role(name, group, chains, context))
    finally:
        engine.llm_engine.engine_core.shutdown()  # vLLM 0.32 leaves its process to wait for at exit
        await group.close()
        ray.shutdown()
    texts = [[chain.step_text(i) for i in range(STEPS)] for chain in chains]
    truth = [TASK.first_error(c.prompt, text) for c, text in zip(chains, texts, strict=True)]
    return rows, [error for error in truth if error is not None]


# --- the report ----------------------------------------------------------------------------------


def report(rows: Sequence[Row], oracle: Sequence[int]) -> dict[str, Any]:
    """The figures of every row, and those of `both` against the goal."""
    baseline, exhaustive, best = rows[0], rows[1], rows[-1]
    assert baseline.located == exhaustive.located, "the same continuations, other counts"
    figures = {
        row.name: {
            **{name: getattr(row, name) for name in COSTS},
            "oracle_agreement": row.agreement(oracle),
            "exhaustive_agreement": row.agreement(exhaustive.located),
            **{f"{name}_ratio": getattr(baseline, name) / getattr(row, name) for name in COSTS},
        }
        for row in rows
    }
    found = {name: figures[best.name][f"{name}_ratio"] for name in ("prefilled", "seconds")}
    found["points"] = best.agreement(oracle) - exhaustive.agreement(oracle)
    met = all(found[key] >= goal for key, goal in GOAL.items())
    return {"chains": len(oracle), "rows": figures, "both": found, "goal": GOAL, "met": met}


def show(result: dict[str, Any]) -> None:
    print(f"{'':9} {'prefilled':>10} {'ratio':>6} {'decoded':>9} {'ratio':>6} {'seconds':>8}"
          f" {'ratio':>6} {'oracle %':>9} {'exhaustive %':>13}")  # fmt: skip
    for name, row in result["rows"].items():
        print(
            f"{name:9} {row['prefilled']:>10} {row['prefilled_ratio']:>6.1f} {row['decoded']:>9}"
            f" {row['decoded_ratio']:>6.1f} {row['seconds']:>8.1f} {row['seconds_ratio']:>6.1f}"
            f" {row['oracle_agreement']:>9.1f} {row['exhaustive_agreement']:>13.1f}"
        )
    found = ", ".join(f"{key} {result['both'][key]:.1f} (goal {GOAL[key]})" for key in GOAL)
    print(f"both, over {result['chains']} chains: {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", type=int, default=10, help=f"with {CHAINS} chains each")
    parser.add_argument("--quick", action="store_true", help="one problem: shows that it runs")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    os.environ.update(engine_environment(CONFIG))
    with tempfile.TemporaryDirectory() as folder:
        rows, oracle = asyncio.run(measure(1 if options.quick else options.problems, folder))
    result = report(rows, oracle)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
