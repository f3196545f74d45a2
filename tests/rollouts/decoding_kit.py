"""A policy that is a table, for the tests of decoding by values."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from rlstep.interfaces import RolloutContext, RolloutStrategy, StepSplitter
from rlstep.steps.newline import NewlineSplitter
from rlstep.tensors.text import decode_with_ends
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeScorer, fake_context
from rlstep.types import (
    Completion,
    Failure,
    Group,
    Likeliest,
    Prompt,
    Request,
    Rollout,
    VersionSpan,
)

END = "$"
"""Stands for the end-of-sequence token."""

Table = Callable[[str], Mapping[str, float]]
"""Text of the completion so far -> probabilities of the next character."""


@dataclass
class TableGenerator:
    """Draws from a table, character by character (implements `interfaces.GenerateRole`).

    What child i draws after a text depends on the text and i alone, so that pieces are drawn as the
    whole would be."""

    table: Table
    prompt: str = "?\n"
    failing: Collection[str] = ()
    """request_ids that are answered by a Failure."""
    calls: int = 0
    asked: list[Request] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    """Tokens of each answer."""

    async def generate(
        self, requests: Sequence[Request]
    ) -> AsyncIterator[tuple[Request, tuple[Completion, ...] | Failure]]:
        self.calls += 1
        self.asked += requests
        for request in requests[::-1]:  # answers come in any order
            if request.request_id in self.failing:
                yield request, Failure(reason="generator_lost")
                continue
            made = tuple(self._draw(request, child) for child in range(request.n))
            self.answered.append(sum(len(each.token_ids) for each in made))
            yield request, made

    def _draw(self, request: Request, child: int) -> Completion:
        sampling = request.sampling
        whole = TOKENIZER.decode(request.prefix_ids.tolist())
        text, piece = whole.partition("\n")[2], ""
        ids, logprobs, told = [], [], []
        reason, stop = "length", None
        while len(ids) < sampling.max_tokens:
            rows = sorted(self.table(text).items(), key=lambda row: -row[1])
            characters, chances = [c for c, _ in rows], np.array([p for _, p in rows])
            index = 0
            if sampling.temperature > 0:
                rng = np.random.default_rng([zlib.crc32(text.encode()), child])
                index = int(rng.choice(len(rows), p=chances / chances.sum()))
            token = number(characters[index])
            ids.append(token)
            logprobs.append(np.log(chances[index]))
            told.append([(number(c), np.log(p)) for c, p in rows][: request.likeliest])
            if token == TOKENIZER.eos_token_id or token in sampling.stop_token_ids:
                reason, stop = "stop", token if token in sampling.stop_token_ids else None
                break
            text, piece = text + characters[index], piece + characters[index]
            ended = [each for each in sampling.stop if piece.endswith(each)]
            if ended:
                reason, stop = "stop", ended[0]
                break
        return _completion(ids, logprobs, told if request.likeliest else None, reason, stop)


def number(character: str) -> int:
    """The token's id."""
    assert TOKENIZER.eos_token_id is not None
    return TOKENIZER.eos_token_id if character == END else ord(character)


def _completion(
    ids: list[int],
    logprobs: list[float],
    told: list[list[tuple[int, float]]] | None,
    reason: str,
    stop: int | str | None,
) -> Completion:
    text, ends = decode_with_ends(TOKENIZER, ids)
    rows = np.array(told, dtype=np.float64) if told else None
    return Completion(
        token_ids=np.array(ids, np.int32),
        logprobs=np.array(logprobs, np.float32),
        text=text,
        ends=ends,
        finish_reason=reason,
        stop_reason=stop,
        versions=(VersionSpan(version=3, start=0, end=len(ids)),),
        likeliest=None
        if rows is None
        else Likeliest(
            token_ids=rows[..., 0].astype(np.int32), logprobs=rows[..., 1].astype(np.float32)
        ),
    )


def random_table(seed: int, characters: str = "ab\n" + END) -> Table:
    """Every text has its own probabilities; they are spread, so that some tokens are sure."""

    @cache
    def table(text: str) -> Mapping[str, float]:
        rng = np.random.default_rng([seed, zlib.crc32(text.encode())])
        weights = rng.dirichlet(np.full(len(characters), 0.5)) + 1e-3
        return dict(zip(characters, (weights / weights.sum()).tolist(), strict=True))

    return table


@dataclass
class Valued:
    """A scorer whose PRM is a function of the text of a prefix; it counts how it is asked."""

    value: Callable[[str], float]
    source: str = "prm"
    timeouts: Collection[str] = ()
    batches: list[list[Rollout]] = field(default_factory=list)

    def scorer(self) -> FakeScorer:
        valued = self

        class Counting(FakeScorer):
            async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
                if rollouts:
                    valued.batches.append(list(rollouts))
                return await super().score_steps(rollouts)

        return Counting(prm=self._steps, timeouts=self.timeouts)

    def _steps(self, rollout: Rollout) -> list[float]:
        ends = [rollout.completion.ends[step.end - 1] for step in rollout.steps]
        last = len(rollout.steps) - 1
        over = rollout.completion.finish_reason == "stop"
        return [
            self.value(rollout.completion.text[:end] + (END if over and k == last else ""))
            for k, end in enumerate(ends)
        ]


def table_context(
    generator: TableGenerator, scorer: FakeScorer, splitter: StepSplitter = NewlineSplitter()
) -> RolloutContext:
    context = fake_context(FakeGenerator(lambda *_: ""), scorer, splitter=splitter)
    return replace(context, generator=generator)


async def decode(
    strategy: RolloutStrategy,
    generator: TableGenerator,
    valued: Valued,
    prompts: Sequence[Prompt],
    splitter: StepSplitter = NewlineSplitter(),
) -> list[Group]:
    """The groups in the order of the prompts."""
    context = table_context(generator, valued.scorer(), splitter)
    groups = {g.prompt.prompt_id: g async for g in strategy.collect(prompts, context)}
    return [groups[prompt.prompt_id] for prompt in prompts]


def texts(group: Group) -> list[str]:
    """Of its rollouts, with what ended them."""
    return [
        r.completion.text + (END if r.completion.token_ids[-1] == TOKENIZER.eos_token_id else "")
        for r in group.rollouts
    ]
