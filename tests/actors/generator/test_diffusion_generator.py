"""The actor's class without the actor: who is asked, and who answers when."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from rlstep.actors.generator.diffusion_generator import DiffusionGenerator
from rlstep.config import DiffusionGeneratorConfig
from rlstep.types import Completion, Failure, Request, Sampling


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.diffusion.kit import make_diffusion_model

    return make_diffusion_model(tmp_path_factory.mktemp("diffusion"), canvas=24)


def asked(name: str, *prefix: int, n: int = 1, **sampling: Any) -> Request:
    return Request(
        request_id=name,
        prefix_ids=np.array(prefix, dtype=np.int32),
        n=n,
        seed=11,
        sampling=Sampling(**{"max_tokens": 8, **sampling}),
    )


async def started(path: str, **fields: Any) -> DiffusionGenerator:
    generator = DiffusionGenerator(DiffusionGeneratorConfig(context=24, **fields), path)
    await generator.start()
    return generator


async def answers(generator: DiffusionGenerator, *requests: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async for several in generator.generate(list(requests)):
        for name, answer in several:
            assert name not in found, "answered twice"
            found[name] = answer
    return found


def tokens(answer: Any) -> list[list[int]]:
    return [completion.token_ids.tolist() for completion in answer]


def test_every_request_is_answered_once_whatever_shares_its_forwards(path: str):
    async def run() -> None:
        generator = await started(path, concurrency=2)
        requests = [asked("a", 3, 4, n=3), asked("b", 5), asked("long", *range(2, 17), *[2] * 9)]
        first, second = await asyncio.gather(
            answers(generator, *requests), answers(generator, asked("c", 6, temperature=0.0))
        )
        assert set(first) == {"a", "b", "long"} and set(second) == {"c"}
        assert isinstance(first["long"], Failure) and first["long"].reason == "rejected"
        alone = await answers(generator, requests[0])
        assert tokens(alone["a"]) == tokens(first["a"])
        for completion in first["a"]:
            assert isinstance(completion, Completion)
            ended = completion.token_ids[-1] == 1
            assert completion.finish_reason == ("stop" if ended else "length")
            assert len(completion.token_ids) <= 8 and (completion.logprobs <= 0).all()
            assert completion.text == generator._tokenizer.decode(
                completion.token_ids.tolist(), skip_special_tokens=True
            )
        await generator.health()
        await generator.close()

    asyncio.run(run())


def test_new_weights_come_between_forwards_and_tokens_say_so(path: str):
    async def run() -> None:
        generator = await started(path)
        forward, steps = generator._forward, []

        def counted(seen: torch.Tensor) -> torch.Tensor:
            steps.append(len(seen))
            if len(steps) == 4:  # paused in the middle: this forward is the last one before
                loop.call_soon_threadsafe(paused.set)
            return forward(seen)

        loop, paused = asyncio.get_running_loop(), asyncio.Event()
        generator._forward = counted  # type: ignore[method-assign]
        writing = asyncio.create_task(
            answers(generator, asked("a", 3, min_tokens=8, max_tokens=8, temperature=1.0))
        )
        await paused.wait()
        await generator.pause()
        done = len(steps)
        own = {name: value.clone() for name, value in generator._model.named_parameters()}
        await generator.start_weight_update()
        generator._received = own
        await generator.finish_weight_update("3")
        assert len(steps) == done and await generator.weight_version() == 3
        await generator.resume()
        [completion] = (await writing)["a"]
        spans = [(span.version, span.end - span.start) for span in completion.versions]
        assert spans == [(0, done), (3, 8 - done)]
        await generator.close()

    asyncio.run(run())


def test_weights_are_taken_whole_or_not_at_all(path: str):
    async def run() -> None:
        generator = await started(path)
        name, before = next((n, p.clone()) for n, p in generator._model.named_parameters())
        own = dict(generator._model.named_parameters())
        for received, message in (
            ({n: p for n, p in own.items() if n != name}, "are not the model's"),
            ({**own, name: torch.zeros(1)}, "came as"),
        ):
            generator._received = {n: torch.zeros_like(p) for n, p in received.items()}
            if received.get(name, before).shape != before.shape:
                generator._received[name] = received[name]
            with pytest.raises(ValueError, match=message):
                await generator.finish_weight_update("1")
            torch.testing.assert_close(own[name], before)
            assert await generator.weight_version() == 0
        await generator.close()

    asyncio.run(run())


def test_a_forward_that_fails_is_said_to_all_who_wait_and_the_next_are_served(path: str):
    async def run() -> None:
        generator = await started(path)
        forward = generator._forward
        generator._forward = None  # type: ignore[assignment, method-assign]
        with pytest.raises(RuntimeError, match="a forward failed: TypeError"):
            await answers(generator, asked("a", 3), asked("b", 4))
        generator._forward = forward  # type: ignore[method-assign]
        assert set(await answers(generator, asked("c", 3))) == {"c"}
        await generator.close()

    asyncio.run(run())


def test_who_has_left_is_written_for_no_more(path: str):
    async def run() -> None:
        generator = await started(path)
        stream: Any = generator.generate([asked("a", 3), asked("b", 3, n=64, max_tokens=20)])
        await anext(stream)
        await stream.aclose()
        assert not generator._active and not generator._waiting
        await generator.close()

    asyncio.run(run())
