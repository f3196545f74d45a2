"""Any OpenAI-compatible service as the model behind a judge."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rlstep.checks import at_least, between, positive
from rlstep.interfaces import Ask, AskContext, JudgeModel, Question
from rlstep.rollouts.requests import request_seed
from rlstep.scoring.judgment_text import UNPARSABLE
from rlstep.types import Failure

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

logger = logging.getLogger(__name__)

_MOST_BYTES = 4 << 20
"""Of one response; a judgment is a few kilobytes."""
_LONGEST_PAUSE_S = 30.0
_BUSY = (408, 409, 425, 429)
"""HTTP statuses under 500 after which the same request may succeed."""


@dataclass(frozen=True, kw_only=True)
class Endpoint(JudgeModel):
    """A model behind an OpenAI-compatible HTTP service: vLLM's server, a gateway, a provider.

    One POST to `url`/chat/completions a question. What may pass (no connection, no answer in time,
    a busy or broken service, a body that is no completion) is asked again, after a pause that
    doubles and is spread at random, or as long as the service says (Retry-After), until
    `deadline_s`; then it is a Failure: 'timeout', 'endpoint_unreachable', 'endpoint_error' or
    'bad_response'. What the service refuses is not asked again: 'endpoint_refused'. Redirects are
    not followed: they would carry the key elsewhere. Neither proxies nor passwords (netrc) are
    taken from the environment.
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
    top_p: float = 1.0
    concurrency: int = 16
    """Most questions that are open at the service at the same time."""
    timeout_s: float = 60.0
    """Longest time for one try."""
    deadline_s: float = 300.0
    """No try of a question begins later than this after its turn came; 0 makes one try."""
    backoff_s: float = 0.5
    """The first pause between two tries."""

    def __post_init__(self) -> None:
        _check_url(self.url)
        at_least("endpoint.max_tokens", self.max_tokens, 1)
        between("endpoint.temperature", self.temperature, 0.0, 2.0)
        between("endpoint.top_p", self.top_p, 1e-6, 1.0)
        at_least("endpoint.concurrency", self.concurrency, 1)
        positive("endpoint.timeout_s", self.timeout_s)
        at_least("endpoint.deadline_s", self.deadline_s, 0.0)
        positive("endpoint.backoff_s", self.backoff_s)

    def check(self) -> None:
        """Raises: ValueError: the environment variable of the key is not set; names it."""
        self._key()

    @asynccontextmanager
    async def open(self, context: AskContext) -> AsyncIterator[Ask]:
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

        key = self._key()
        async with ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            connector=TCPConnector(limit=0),  # `concurrency` is the limit
            timeout=ClientTimeout(total=None),  # and `timeout_s` is
            cookie_jar=DummyCookieJar(),
        ) as http:
            yield _Asking(self, key, http, context.seed)

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


@dataclass(frozen=True)
class _Again:
    """What went wrong for now."""

    failure: Failure
    after_s: float = 0.0
    """How long the service asks to be left alone."""


class _Asking:
    """An endpoint with a connection pool (implements `interfaces.Ask`)."""

    def __init__(self, spec: Endpoint, key: str, http: ClientSession, seed: int) -> None:
        self._spec = spec
        self._key = key
        self._http = http
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
            clock, pauses = asyncio.get_running_loop().time, _pauses(self._spec.backoff_s, seed)
            end = clock() + self._spec.deadline_s
            while True:
                answer = await self._try(question, seed)
                if not isinstance(answer, _Again):
                    return answer
                wait = max(next(pauses), answer.after_s)
                if clock() + wait >= end:
                    return answer.failure
                await asyncio.sleep(wait)

    async def _try(self, question: Question, seed: int) -> str | Failure | _Again:
        from aiohttp import ClientError

        try:
            # Around the whole exchange: a service that drips a byte a second ends in time too.
            async with asyncio.timeout(self._spec.timeout_s):
                async with self._http.post(
                    f"{self._spec.url.rstrip('/')}/chat/completions",
                    json=self._body(question, seed),
                    allow_redirects=False,
                ) as response:
                    return self._read(response, await _content(response))
        except TimeoutError:
            return _Again(
                Failure(reason="timeout", detail=f"no answer within {self._spec.timeout_s} s")
            )
        except (ClientError, OSError) as error:
            return _Again(self._failure("endpoint_unreachable", f"{type(error).__name__}: {error}"))

    def _body(self, question: Question, seed: int) -> dict[str, Any]:
        return {
            "model": self._spec.model,
            "messages": [{"role": "user", "content": question.text}],
            "max_tokens": self._spec.max_tokens,
            "temperature": self._spec.temperature,
            "top_p": self._spec.top_p,
            "seed": seed,
        }

    def _read(self, response: ClientResponse, content: bytes) -> str | Failure | _Again:
        status = response.status
        if status != 200:
            detail = f"HTTP {status}: {content[:200].decode(errors='replace')}"
            if status >= 500 or status in _BUSY:
                failure = self._failure("endpoint_error", detail)
                return _Again(failure, _seconds(response.headers.get("Retry-After", "")))
            return self._failure("endpoint_refused", detail)
        try:
            choice = json.loads(content)["choices"][0]
            text, finish = choice["message"]["content"], choice["finish_reason"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            detail = f"{type(error).__name__} in {len(content)} bytes"
            return _Again(self._failure("bad_response", detail))
        if finish == "length":
            return Failure(reason=UNPARSABLE, detail="the judgment was cut at its limit")
        if finish != "stop" or not isinstance(text, str):
            return self._failure("endpoint_refused", f"finish_reason {finish!r}")
        return text

    def _failure(self, reason: str, detail: str) -> Failure:
        """Without the key, whoever quoted it."""
        told = detail.replace(self._key, "***") if self._key else detail
        return Failure(reason=reason, detail=told)


async def _content(response: ClientResponse) -> bytes:
    """The body; one that is too long to be an answer is cut, and so is no JSON any more."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _MOST_BYTES:
            break
    return bytes(content[:_MOST_BYTES])


def _pauses(first_s: float, seed: int) -> Iterator[float]:
    """Doubling, each shortened at random by up to a half, so that questions do not come back all
    at once; the same ones for the same seed."""
    draw, pause = random.Random(seed), first_s
    while True:
        yield pause * draw.uniform(0.5, 1.0)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _seconds(retry_after: str) -> float:
    """A header's number of seconds; 0 for none, or for a date."""
    return float(retry_after) if retry_after.isdecimal() else 0.0


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            f"endpoint.url is {url!r}; it must be like 'http://127.0.0.1:8000/v1', without a query"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "endpoint.url holds a password; put the key into an environment variable and name it"
            " in endpoint.key_variable"
        )
