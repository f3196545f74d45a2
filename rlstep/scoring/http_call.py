"""A POST of JSON that ends in time: deadlines, retries that back off, a circuit breaker.

Nothing here raises for what a service does. It answers with JSON, or there is a `Failure`:

    timeout       no whole answer in time
    unreachable   no connection, or one that broke
    http_<code>   a status other than 2xx, with the first words of its answer; no redirect is
                  followed, the key goes to one address
    bad_response  a whole answer that is no JSON, or larger than allowed
    circuit_open  not asked: the service has failed too often in a row
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from rlstep.checks import at_least
from rlstep.types import Failure

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")

Post: TypeAlias = Callable[[Any, Random], Awaitable[Any]]
"""(body, random) -> the decoded answer, or a Failure: one call. `random` draws the pauses."""

_BUSY = {408, 409, 425, 429}
"""Statuses below 500 that may be gone at the next attempt."""


@dataclass(frozen=True, kw_only=True)
class HttpPolicy:
    """How long to wait for a service, and when to stop asking it."""

    timeout_s: float = 30.0
    """Longest time for one attempt, from connecting to the last byte of the answer."""
    attempts: int = 3
    """Most attempts of one call."""
    backoff_s: float = 0.5
    """Longest pause before the second attempt, doubled before each further one. The pause is drawn
    evenly from 0 to that ('full jitter'), so that many callers do not come back at once."""
    longest_backoff_s: float = 8.0
    patience_s: float = 60.0
    """Longest pause that a service may ask for (Retry-After); after a longer one, a call ends."""
    breaker_failures: int = 5
    """Failed attempts in a row, of any calls, after which the circuit opens."""
    cool_down_s: float = 30.0
    """How long it stays open before one attempt may find out whether the service is back."""
    largest_answer: int = 16 << 20
    """Bytes of an answer that are read at most."""

    def __post_init__(self) -> None:
        at_least("http.timeout_s", self.timeout_s, 0.001)
        at_least("http.backoff_s", self.backoff_s, 0.0)
        at_least("http.longest_backoff_s", self.longest_backoff_s, self.backoff_s)
        at_least("http.patience_s", self.patience_s, 0.0)
        at_least("http.cool_down_s", self.cool_down_s, 0.0)
        for name in ("attempts", "breaker_failures", "largest_answer"):
            at_least(f"http.{name}", getattr(self, name), 1)

    def pause(self, failed: int, random: Random) -> float:
        """Seconds to wait after that many failed attempts of a call."""
        return random.uniform(0.0, min(self.longest_backoff_s, self.backoff_s * 2 ** (failed - 1)))


class Unavailable(Exception):
    """An attempt found no service; another one may."""

    def __init__(self, reason: str, detail: str = "", after_s: float = 0.0) -> None:
        super().__init__(reason, detail)
        self.failure = Failure(reason=reason, detail=detail)
        self.after_s = after_s
        """How long the service asks to be left alone."""


class Busy(Unavailable):
    """The service is there, and asks for patience."""


class CircuitBreaker:
    """Stops asking a service that has failed too often in a row; used by one event loop.

    Closed, every attempt is made. After `failures` failed ones in a row it is open, and none is.
    After `cool_down_s` it is half open: one attempt is made, which closes it, or opens it anew.
    """

    def __init__(
        self, failures: int, cool_down_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._in_a_row = 0
        self._opened: float | None = None
        self._probing = False

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T | Failure:
        """What the attempt answers, or Failure('circuit_open') where none is made.

        Raises:
            Unavailable: the attempt's own; it counts as a failure, as does a cancelled attempt.
            Busy: the same; it counts as an answer.
        """
        probe = self._opened is not None
        if probe:
            assert self._opened is not None
            if self._probing or self._clock() - self._opened < self._cool_down_s:
                return Failure(reason="circuit_open", detail=f"{self._in_a_row} failures in a row")
            self._probing = True
        try:
            answer = await attempt()
        except Busy:
            self._in_a_row, self._opened = 0, None
            raise
        except BaseException:
            self._in_a_row += 1
            if probe or (self._opened is None and self._in_a_row >= self._limit):
                self._opened = self._clock()
            raise
        finally:
            if probe:
                self._probing = False
        self._in_a_row, self._opened = 0, None
        return answer


class HttpService:
    """One URL that takes JSON and answers with JSON."""

    def __init__(self, url: str, policy: HttpPolicy) -> None:
        self._url = url
        self._policy = policy
        self._breaker = CircuitBreaker(policy.breaker_failures, policy.cool_down_s)

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Post]:
        """What makes calls, over shared connections.

        It sends `key` as a bearer token ('': none) and cuts it out of what it tells, keeps no
        cookies, and takes neither proxies nor passwords from the environment.
        """
        import aiohttp

        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            connector=aiohttp.TCPConnector(limit=0),  # how many at once is the caller's to say
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            yield partial(self._post, session, key)

    async def _post(self, session: ClientSession, key: str, body: Any, random: Random) -> Any:
        failure, pause = Failure(reason="circuit_open"), 0.0
        for failed in range(self._policy.attempts):
            if failed:
                await asyncio.sleep(pause)
            try:
                answer = await self._breaker.call(lambda: self._attempt(session, key, body))
            except Unavailable as error:
                failure = error.failure
                if error.after_s > self._policy.patience_s:
                    return failure
                pause = max(self._policy.pause(failed + 1, random), error.after_s)
                continue
            refused = isinstance(answer, Failure) and answer.reason == "circuit_open"
            return failure if refused and failed else answer  # its own failures opened the circuit
        return failure

    async def _attempt(self, session: ClientSession, key: str, body: Any) -> Any | Failure:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._policy.timeout_s)
        try:
            async with session.post(
                self._url, json=body, timeout=timeout, allow_redirects=False
            ) as response:
                content, status = await self._read(response), response.status
        except TimeoutError as error:
            raise Unavailable("timeout", f"no answer within {self._policy.timeout_s} s") from error
        except (aiohttp.ClientError, OSError) as error:
            detail = _told(f"{type(error).__name__}: {error}", key)
            raise Unavailable("unreachable", detail) from error
        if not 200 <= status < 300:
            reason, detail = f"http_{status}", _told((content or b"").decode(errors="replace"), key)
            after_s = _seconds(response.headers.get("Retry-After", ""))
            if status in _BUSY:
                raise Busy(reason, detail, after_s)
            if status >= 500:
                raise Unavailable(reason, detail, after_s)
            return Failure(reason=reason, detail=detail)
        if content is None:
            detail = f"larger than {self._policy.largest_answer} bytes"
            return Failure(reason="bad_response", detail=detail)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            return Failure(reason="bad_response", detail=f"no JSON: {error}"[:200])

    async def _read(self, response: ClientResponse) -> bytes | None:
        """The whole body, or None where it is larger than allowed."""
        content = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            content += chunk
            if len(content) > self._policy.largest_answer:
                return None
        return bytes(content)


def _told(detail: str, key: str) -> str:
    """The beginning, without the key, whoever quoted it."""
    return (detail.replace(key, "***") if key else detail)[:200]


def _seconds(retry_after: str) -> float:
    """A header's number of seconds; 0 for none, or for a date."""
    return float(retry_after) if retry_after.isdecimal() else 0.0


def check_url(name: str, url: str) -> None:
    """Refuse what is no plain http(s) address; one with a password in it is not printed.

    Raises:
        ValueError: naming the field.
    """
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or parts.password is not None
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(f"{name} is no URL: {error}") from error
    if secret:
        raise ValueError(f"{name} holds a user or a password; keys come from the environment")
    if not whole:
        raise ValueError(f"{name} is {url!r}; it must be like http://host:8000/score")
