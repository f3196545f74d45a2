"""`Verifiers` against the server of the real package (verifiers 0.4.0), in an environment of its
own: one that is made for it, or the one whose Python RLSTEP_VERIFIERS_PYTHON names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.rollouts.verifiers import Verifiers
from rlstep.steps.turns import Turns
from rlstep.tensors.text import decode_with_ends
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.types import (
    Completion,
    Group,
    Prompt,
    Request,
    Sampling,
    Verdict,
    VersionSpan,
)
from tests.real_package import python_with, started
from tests.real_tokenizers import byte_level_tokenizer

pytestmark = pytest.mark.slow

TOKENIZER = byte_level_tokenizer()
PROMPT = "<|im_start|>user\n08-15<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("verifiers")
    return python_with("verifiers==0.4.0", "RLSTEP_VERIFIERS_PYTHON", folder)


@pytest.fixture
def server(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A process, and its address."""
    TOKENIZER.save_pretrained(tmp_path / "tokenizer")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with started(python, str(Path(__file__).with_name("verifiers_server.py"))) as found:
        yield found


@dataclass
class Player:
    """Halves what is left of the range, in the tokens of a real tokenizer; each turn is another
    version's."""

    said: dict[int, str] = field(default_factory=dict)
    """What it says in turn so and so instead."""
    asked: list[Request] = field(default_factory=list)

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Any]:
        for request in requests:
            self.asked.append(request)
            text = TOKENIZER.decode(request.prefix_ids.tolist(), skip_special_tokens=False)
            turn = text.count("<|im_start|>assistant") - 1
            yield request, (self._turn(text, turn, request.sampling.max_tokens),)

    def _turn(self, text: str, turn: int, most: int) -> Completion:
        lines = [
            part.split("\n")[1] for part in text.replace("<|im_end|>", "").split("<|im_start|>")[1:]
        ]
        low, high = map(int, lines[0].split("-"))
        for guess, sign in zip(lines[1::2], lines[2::2], strict=False):
            low, high = (low, int(guess) - 1) if sign == "<" else (int(guess) + 1, high)
        said = self.said.get(turn, str((low + high) // 2))
        ids = TOKENIZER.encode(said, add_special_tokens=False)
        ids = np.array([*ids, TOKENIZER.eos_token_id], np.int32)[:most]
        words, ends = decode_with_ends(TOKENIZER, ids)
        return Completion(
            token_ids=ids,
            logprobs=np.linspace(-0.1, -1 / 3, len(ids)).astype(np.float32),
            text=words,
            ends=ends,
            finish_reason="stop" if ids[-1] == TOKENIZER.eos_token_id else "length",
            stop_reason=None,
            versions=(VersionSpan(version=3 + turn, start=0, end=len(ids)),),
        )


def _nothing(prefix: str, child: int, seed: int) -> str:
    raise AssertionError("the player answers")


def prompt(answer: int = 14, guesses: int = 4) -> Prompt:
    ids = TOKENIZER.encode(PROMPT, add_special_tokens=False)
    return Prompt(
        prompt_id=f"p{answer}",
        token_ids=np.array(ids, np.int32),
        text=PROMPT,
        answer=str(answer),
        meta={"task_data": {"prompt": "08-15", "answer": answer, "guesses": guesses}},
    )


async def played(
    address: str, folder: Path, prompts: list[Prompt], player: Any = None, **fields: Any
) -> list[Group]:
    strategy = Verifiers(
        address=address,
        tokenizer=str(folder / "tokenizer"),
        **{"samples_per_prompt": 2, "wins": 1.0, "sampling": Sampling(max_tokens=100), **fields},
    )
    context = replace(
        fake_context(FakeGenerator(_nothing), FakeScorer(), splitter=Turns(), conversing=strategy),
        generator=player or Player(),
        tokenizer=TOKENIZER,
    )
    return [group async for group in strategy.collect(prompts, context)]


async def test_whole_episodes_token_by_token(server: Any, tmp_path: Path):
    """8-15: 11 is the middle. For 14: 11 >, 13 >, 14."""
    player = Player()
    prompts = [prompt(answer) for answer in range(8, 16)]
    groups = await played(server[1], tmp_path, prompts, player)
    assert sorted(group.prompt.prompt_id for group in groups) == sorted(
        p.prompt_id for p in prompts
    )
    assert [len(group.rollouts) for group in groups] == [2] * 8
    [group] = [group for group in groups if group.prompt.prompt_id == "p14"]
    for rollout in group.rollouts:
        assert rollout.completion.text == "11\nuser\n>\nassistant\n13\nuser\n>\nassistant\n14"
        assert [rollout.step_text(k) for k in range(3)] == ["11", "13", "14"]
        turn = player._turn(PROMPT, 0, 100)
        for number, step in enumerate(rollout.steps):
            said = rollout.completion.logprobs[step.start : step.end]
            assert said.tobytes() == turn.logprobs.tobytes()
            [version] = [v.version for v in rollout.completion.versions if v.start == step.start]
            assert version == 3 + number
        assert rollout.whole_score("return") == 2.0  # won, of weight 2
        assert rollout.outcome is not None and rollout.outcome.verdict is Verdict.CORRECT
        assert rollout.completion.finish_reason == "stop"
    seeds = [request.seed for request in player.asked]
    assert len(set(seeds)) == len(seeds)


async def test_a_game_that_is_lost_and_one_that_is_cut(server: Any, tmp_path: Path):
    [lost] = await played(server[1], tmp_path, [prompt(guesses=2)])
    assert [rollout.whole_score("return") for rollout in lost.rollouts] == [0.0, 0.0]
    assert all(r.outcome and r.outcome.verdict is Verdict.WRONG for r in lost.rollouts)
    assert all(len(rollout.steps) == 2 for rollout in lost.rollouts)
    [cut] = await played(server[1], tmp_path, [prompt(guesses=1)], turn_tokens=1)
    assert [r.completion.finish_reason for r in cut.rollouts] == ["length"] * 2
    assert [len(r.completion.token_ids) for r in cut.rollouts] == [1] * 2


async def test_what_the_server_cannot_play_is_a_failure_and_the_others_go_on(
    server: Any, tmp_path: Path
):
    raising = Player(said={1: "99"})
    [group] = await played(server[1], tmp_path, [prompt()], raising)
    assert [failure.reason for failure in group.failures] == ["crashed"] * 2
    assert all("99 is too much" in failure.detail for failure in group.failures)
    wrong = replace(prompt(8), meta={"task_data": {"prompt": "08-15", "answer": "eight"}})
    other = replace(prompt(9), token_ids=np.array([1, 2, 3], np.int32))
    groups = await played(server[1], tmp_path, [wrong, other, prompt(14)])
    found = {group.prompt.prompt_id: group for group in groups}
    assert {f.reason for f in found["p8"].failures} == {"crashed"}
    assert {f.reason for f in found["p9"].failures} == {"other_prompt"}
    assert len(found["p14"].rollouts) == 2
    [group] = await played(server[1], tmp_path, [prompt()], sampling=Sampling(max_tokens=6))
    assert [failure.reason for failure in group.failures] == ["crashed"] * 2
    assert all("no room left" in failure.detail for failure in group.failures)


async def test_a_server_that_is_killed_in_the_middle_fails_its_episodes(
    server: Any, tmp_path: Path
):
    process, address = server

    class Killing(Player):
        async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Any]:
            async for item in super().generate(requests):
                if len(self.asked) == 3:
                    process.kill()
                    process.wait()
                yield item

    [group] = await played(address, tmp_path, [prompt()], Killing())
    assert [failure.reason for failure in group.failures] == ["unreachable"] * 2
    [group] = await played(address, tmp_path, [prompt()])
    assert [failure.reason for failure in group.failures] == ["unreachable"] * 2
