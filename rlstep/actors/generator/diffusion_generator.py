"""The generator role of a masked diffusion policy: a loop of torch in an asynchronous Ray actor."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

from rlstep.actors.generator.generator import Serving
from rlstep.actors.weights.gloo_group import GlooPlace, GlooRound, broadcast, join
from rlstep.config import DiffusionGeneratorConfig
from rlstep.diffusion.canvas import read_canvas
from rlstep.diffusion.unmasking import Pace, Sheet, sheets, unmask, written
from rlstep.measuring.peak_memory import peak_gib
from rlstep.rollouts.progress import Progress
from rlstep.tensors.text import decode_with_ends
from rlstep.tensors.tokenizers import read_tokenizer, reading_tags
from rlstep.types import Completion, Failure, Request

Answer = tuple[str, tuple[Completion, ...] | Failure]
"""(request_id, completions by child index, or what went wrong)."""


@dataclass(eq=False)
class _Asked:
    """A request under way."""

    request: Request
    sheets: list[Sheet]
    done: asyncio.Queue[Answer | Exception]


class DiffusionGenerator:
    """One replica, with the verbs of `GeneratorWorker`. Tokens in, tokens out.

    Everything outstanding, from however many `generate` calls, shares the forwards: canvases are
    equally long, whatever is known of them, so one that is complete makes room for the next at
    once. A completion's logprobs are of each token when it came to be known, given all that was
    known then, at the sampling's temperature; they are those of no chain in the order of the text,
    and nothing that needs such reads them (a run that would is refused).

    Args:
        config: the generators' configuration.
        model_path: a folder or hub id with tokenizer and first weights.
        serving: its tags are read; what is sampled is tempered always, see above.
    """

    def __init__(
        self,
        config: DiffusionGeneratorConfig,
        model_path: str,
        **serving: Unpack[Serving],
    ) -> None:
        self._config = config
        self._model_path = model_path
        self._tags = serving.get("tags", ())
        self._pace = Pace(block=config.block, tokens=config.tokens_per_step)
        self._version = 0
        self._waiting: deque[tuple[_Asked, Sheet]] = deque()
        self._active: list[tuple[_Asked, Sheet]] = []
        self._group: Any = None
        self._received: dict[str, Tensor] = {}
        self._progress = Progress()

    async def start(self) -> None:
        """Load the model's weights on disk, labelled version 0."""
        from transformers import AutoModelForMaskedLM

        torch.set_num_threads(self._config.threads)
        self._tokenizer = reading_tags(read_tokenizer(self._model_path), self._tags)
        self._canvas = read_canvas(self._model_path)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model: Any = AutoModelForMaskedLM.from_pretrained(
            self._model_path, dtype=getattr(torch, self._config.dtype), trust_remote_code=False
        )
        self._model = model.to(self._device).eval()
        self._work = asyncio.Event()
        self._between_steps = asyncio.Lock()
        """Held by a forward, and by whoever has paused."""
        self._loop = asyncio.create_task(self._run())

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Answer]]:
        """Answers as they finish, each request exactly once; several that are ready come together.

        Raises:
            RuntimeError: a forward failed.
        """
        done: asyncio.Queue[Answer | Exception] = asyncio.Queue()
        for request in requests:
            self._ask(request, done)
        self._work.set()
        try:
            answered = 0
            while answered < len(requests):
                ready = [await done.get()]
                while not done.empty():
                    ready.append(done.get_nowait())
                errors = [item for item in ready if isinstance(item, Exception)]
                if errors:
                    raise errors[0]
                answered += len(ready)
                yield ready  # type: ignore[misc]
        finally:
            self._waiting = deque(each for each in self._waiting if each[0].done is not done)
            self._active = [each for each in self._active if each[0].done is not done]

    def _ask(self, request: Request, done: asyncio.Queue[Answer | Exception]) -> None:
        try:
            asked = _Asked(request, sheets(request, self._canvas, self._pace), done)
        except ValueError as error:
            failure = Failure(reason="rejected", detail=str(error))
            done.put_nowait((request.request_id, failure))
        else:
            self._waiting += [(asked, sheet) for sheet in asked.sheets]

    async def _run(self) -> None:
        """Forwards, as long as there is anything to write; a failure goes to all who wait."""
        while True:
            await self._work.wait()
            try:
                async with self._between_steps:
                    await self._step()
            except Exception as error:
                for asked, _ in (*self._active, *self._waiting):
                    asked.done.put_nowait(RuntimeError(f"a forward failed: {error!r}"))
                self._active, self._waiting = [], deque()

    async def _step(self) -> None:
        while self._waiting and len(self._active) < self._config.concurrency:
            self._active.append(self._waiting.popleft())
        if not self._active:
            self._work.clear()
            return
        under_way = [sheet for _, sheet in self._active]
        await asyncio.to_thread(unmask, under_way, self._forward, self._canvas, self._version)
        self._progress.made()
        ended = [each for each in self._active if each[1].end(self._canvas) is not None]
        self._active = [each for each in self._active if each[1].end(self._canvas) is None]
        for asked in dict.fromkeys(asked for asked, _ in ended):
            self._answer(asked)

    def _forward(self, seen: Tensor) -> Tensor:
        return self._model(input_ids=seen.to(self._device)).logits.float().cpu()

    def _answer(self, asked: _Asked) -> None:
        ends = [sheet.end(self._canvas) for sheet in asked.sheets]
        if None not in ends:
            both = zip(asked.sheets, ends, strict=True)
            completions = tuple(self._completion(sheet, end) for sheet, end in both if end)
            asked.done.put_nowait((asked.request.request_id, completions))

    def _completion(self, sheet: Sheet, end: int) -> Completion:
        token_ids, logprobs, versions = written(sheet, end)
        text, ends = decode_with_ends(self._tokenizer, token_ids)
        stopped = sheet.ends and token_ids[-1] == self._canvas.end
        return Completion(
            token_ids=token_ids,
            logprobs=logprobs,
            text=text,
            ends=ends,
            finish_reason="stop" if stopped else "length",
            stop_reason=None,
            versions=versions,
            cached=0,
        )

    async def pause(self) -> None:
        """Wait for the forward under way; none follows. What is half written goes on afterwards,
        and its tokens say which version wrote each."""
        await self._between_steps.acquire()

    async def resume(self) -> None:
        self._progress.made()
        self._between_steps.release()

    async def idle_s(self) -> float:
        """Seconds since the last forward."""
        return self._progress.idle_s()

    async def health(self) -> None:
        """Raises where the loop has ended."""
        if self._loop.done():
            raise RuntimeError("the loop of the diffusion generator has ended")

    async def process_id(self) -> int:
        return os.getpid()

    async def peak_gib(self) -> float:
        """See `measuring.peak_memory`."""
        return peak_gib()

    async def close(self) -> None:
        """End the loop; the actor itself is killed afterwards."""
        self._loop.cancel()

    # --- weight transfer, called by the learner's sync client ---------------------------------

    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        place = GlooPlace(**init_info)
        self._group = await asyncio.to_thread(join, place, place.rank_offset)

    async def start_weight_update(self) -> None:
        self._received = {}

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        await asyncio.to_thread(self._receive, GlooRound(**update_info))

    def _receive(self, sent: GlooRound) -> None:
        for name, dtype, shape in zip(sent.names, sent.dtypes, sent.shapes, strict=True):
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            broadcast(self._group, weight)
            self._received[name] = weight

    async def finish_weight_update(self, version: str) -> None:
        """Take the new weights: all of them, or none.

        Raises:
            ValueError: one is missing, or of another name or shape.
        """
        own = dict(self._model.named_parameters())
        if differing := sorted(own.keys() ^ self._received.keys()):
            raise ValueError(f"the weights that came are not the model's: {differing[:3]}")
        with torch.no_grad():
            for name, weight in self._received.items():
                if weight.shape != own[name].shape:
                    raise ValueError(f"{name} came as {tuple(weight.shape)}")
            for name, weight in self._received.items():
                own[name].copy_(weight)
        self._received = {}
        self._version = int(version)

    async def weight_version(self) -> int:
        return self._version
