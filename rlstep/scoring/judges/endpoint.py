"""Any OpenAI-compatible service as the model behind a judge."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any
from urllib.parse import urlsplit

from rlstep.checks import at_least, between
from rlstep.interfaces import Ask, AskContext, JudgeModel, Question
from rlstep.rollouts.requests import request_seed
from rlstep.scoring.judges.judgment_text import UNPARSABLE
from rlstep.scoring.processes.http_call import HttpPolicy, HttpService, Post, check_url
from rlstep.types import Failure

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Endpoint(JudgeModel):
    """A model behind an OpenAI-compatible HTTP service: vLLM's server, a gateway, a provider.

    One POST to `url`/chat/completions a question. What may pass (an answer that is no completion,
    too) is asked again, and a dead service is left alone after a while, see `http_call`, whose
    reasons a question's Failure has; or 'not_finished' for an answer that the service ended early
    (a content filter, say), and 'unparsable_judgment' for one that was cut at max_tokens.
    """

    url: str
    """Without the last part: 'http://127.0.0.1:8000/v1'. It holds no password."""
    model: str
    """The service's name of the model."""
    key_variable: str = ""
    """The environment variable that holds the key; '' sends none."""
    max_tokens: int = 1024
    """Most tokens of an answer; one that is cut there has no verdict."""
    temperature: float = 0.7
    """Of the service's sampling."""
    top_p: float = 1.0
    """Sample from the likeliest tokens that have this probability together; 1 takes all."""
    concurrency: int = 16
    """Most questions that are open at the service at the same time."""
    http: HttpPolicy = HttpPolicy(
        timeout_s=60.0,
        attempts=32,
        longest_backoff_s=30.0,
        deadline_s=300.0,
        breaker_failures=32,
        breaker_s=60.0,
    )
    """Patient: a service may start anew, or hold back what comes too fast. It counts as dead where
    no question is answered for a minute."""

    def __post_init__(self) -> None:
        check_url("endpoint.url", self.url)
        if urlsplit(self.url).query or urlsplit(self.url).fragment:
            raise ValueError(
                f"endpoint.url is {self.url!r}; it must be like 'http://127.0.0.1:8000/v1', without"
                " a query"
            )
        at_least("endpoint.max_tokens", self.max_tokens, 1)
        between("endpoint.temperature", self.temperature, 0.0, 2.0)
        between("endpoint.top_p", self.top_p, 1e-6, 1.0)
        at_least("endpoint.concurrency", self.concurrency, 1)

    def check(self) -> None:
        """Raises: ValueError: the environment variable of the key is not set; names it."""
        self._key()

    @asynccontextmanager
    async def open(self, context: AskContext) -> AsyncIterator[Ask]:
        async with self._service.open(self._key()) as post:
            yield _Asking(self, post, context.seed)

    @cached_property
    def _service(self) -> HttpService:
        """Kept from one opening to the next: its circuit breaker remembers."""
        return HttpService(f"{self.url.rstrip('/')}/chat/completions", self.http, _text)

    def _key(self) -> str:
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ValueError(
                f"endpoint.key_variable is {self.key_variable!r}, and the environment has no such"
                " variable; set it, or choose '' to send no key"
            )
        return key


class _Asking:
    """An endpoint with its connections (implements `interfaces.Ask`)."""

    def __init__(self, spec: Endpoint, post: Post, seed: int) -> None:
        self._spec = spec
        self._post = post
        self._seed = seed
        self._turns = asyncio.Semaphore(spec.concurrency)

    async def __call__(self, questions: Sequence[Question]) -> list[str | Failure]:
        answers = await asyncio.gather(*(self._answer(question) for question in questions))
        lost = Counter(answer.reason for answer in answers if isinstance(answer, Failure))
        if lost:
            total = len(questions)
            logger.warning("%s: not answered, of %d: %s", self._spec.url, total, dict(lost))
        return answers

    async def _answer(self, question: Question) -> str | Failure:
        seed = request_seed(self._seed, question.question_id)
        async with self._turns:
            return await self._post(self._body(question, seed), Random(seed))

    def _body(self, question: Question, seed: int) -> dict[str, Any]:
        return {
            "model": self._spec.model,
            "messages": [{"role": "user", "content": question.text}],
            "max_tokens": self._spec.max_tokens,
            "temperature": self._spec.temperature,
            "top_p": self._spec.top_p,
            "seed": seed,
        }


def _text(answer: Any) -> str | Failure:
    """What a completion says.

    Raises:
        LookupError, TypeError: it is none.
    """
    choice = answer["choices"][0]
    text, finish = choice["message"]["content"], choice["finish_reason"]
    if finish == "length":
        return Failure(reason=UNPARSABLE, detail="the judgment was cut at its limit")
    if finish != "stop" or not isinstance(text, str):
        told = finish if finish in ("stop", "content_filter", "tool_calls") else "another one"
        return Failure(reason="not_finished", detail=f"finish_reason: {told}")
    return text
