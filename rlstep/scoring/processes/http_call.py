"""A POST of JSON that ends in time: deadlines, retries that back off, a circuit breaker.

Nothing here raises for what a service does. It answers with JSON, or there is a `Failure`:

    timeout       no whole answer in time
    unreachable   no connection, or one that broke
    http_<code>   a status other than 2xx, with the first words of its answer; no redirect is
                  followed, the key goes to one address
    bad_response  a whole answer that is no JSON or not what was asked for, or larger than allowed
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

_PASSING = {408, 409, 425, 429}
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
    """Where the doubling of the pauses ends."""
    deadline_s: float = 120.0
    """No attempt of a call begins later than this after the first; a service may ask for pauses
    (Retry-After) within it."""
    breaker_failures: int = 5
    """Failed attempts in a row, of any calls, after which the circuit opens ..."""
    breaker_s: float = 0.0
    """... if the row has lasted so long."""
    cool_down_s: float = 30.0
    """How long it stays open before one attempt may find out whether the service is back."""
    largest_answer: int = 16 << 20
    """Bytes of an answer that are read at most."""

    def __post_init__(self) -> None:
        at_least("http.timeout_s", self.timeout_s, 0.001)
        at_least("http.backoff_s", self.backoff_s, 0.0)
        at_least("http.longest_backoff_s", self.longest_backoff_s, self.backoff_s)
        at_least("http.deadline_s", self.deadline_s, 0.0)
        at_least("http.breaker_s", self.breaker_s, 0.0)
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


class CircuitBreaker:
    """Stops asking a service that has failed too often in a row; used by one event loop.

    Closed, every attempt is made. After `failures` failed ones in a row, over `row_s` seconds or
    more, it is open, and none is. After `cool_down_s` it is half open: one attempt is made, which
    closes it, or opens it anew; who asks meanwhile waits for what comes of it.
    """

    def __init__(
        self,
        failures: int,
        cool_down_s: float,
        row_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._cool_down_s = cool_down_s
        self._row_s = row_s
        self._clock = clock
        self._in_a_row = 0
        self._row_began = 0.0
        self._opened: float | None = None
        self._probe: asyncio.Event | None = None
        """Set once the one attempt of a half-open circuit is over."""

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T | Failure:
        """What the attempt answers, or Failure('circuit_open') where none is made.

        Raises:
            Unavailable: the attempt's own; it counts as a failure, as does a cancelled attempt.
        """
        while self._probe is not None:
            await self._probe.wait()
        if self._opened is None:
            return await self._counted(attempt)
        if self._clock() - self._opened < self._cool_down_s:
            return Failure(reason="circuit_open", detail=f"{self._in_a_row} failures in a row")
        self._probe = probe = asyncio.Event()
        try:
            return await self._counted(attempt, probes=True)
        finally:
            self._probe = None
            probe.set()

    async def _counted(self, attempt: Callable[[], Awaitable[T]], probes: bool = False) -> T:
        try:
            answer = await attempt()
        except BaseException:
            now = self._clock()
            if not self._in_a_row:
                self._row_began = now
            self._in_a_row += 1
            long = self._in_a_row >= self._limit and now - self._row_began >= self._row_s
            if probes or (self._opened is None and long):
                self._opened = now
            raise
        self._in_a_row, self._opened = 0, None
        return answer


def _as_it_is(answer: Any) -> Any:
    return answer


class HttpService:
    """One URL that takes JSON and answers with JSON.

    Args:
        decode: what to make of an answer; a LookupError, TypeError or ValueError says that it is
            none.
    """

    def __init__(
        self, url: str, policy: HttpPolicy, decode: Callable[[Any], Any] = _as_it_is
    ) -> None:
        self._url = url
        self._policy = policy
        self._decode = decode
        self._breaker = CircuitBreaker(
            policy.breaker_failures, policy.cool_down_s, policy.breaker_s
        )

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
        clock = asyncio.get_running_loop().time
        end = clock() + self._policy.deadline_s
        failed, failure = 0, Failure(reason="circuit_open")
        while True:
            try:
                answer = await self._breaker.call(lambda: self._attempt(session, key, body))
            except Unavailable as error:
                failed, failure = failed + 1, error.failure
                pause = max(self._policy.pause(failed, random), error.after_s)
                if failed == self._policy.attempts or clock() + pause > end:
                    return failure
                await asyncio.sleep(pause)
                continue
            refused = isinstance(answer, Failure) and answer.reason == "circuit_open"
            return failure if refused and failed else answer  # its own failures opened the circuit

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
            if status >= 500 or status in _PASSING:
                after_s = _seconds(response.headers.get("Retry-After", ""))
                raise Unavailable(reason, detail, after_s)
            return Failure(reason=reason, detail=detail)
        if content is None:
            detail = f"larger than {self._policy.largest_answer} bytes"
            return Failure(reason="bad_response", detail=detail)
        try:
            return self._decode(json.loads(content))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            detail = f"{type(error).__name__} in {len(content)} bytes"
            raise Unavailable("bad_response", detail) from error

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
