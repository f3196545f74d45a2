"""A sandbox on another machine, asked over HTTP.

One POST of JSON, {"program", "test", "entry_point", "setup", "limits": {...}} as in `sandbox.Job`
and `sandbox.Limits`, is answered by 200 and {"ending", "detail", "output"} as in `sandbox.Result`
(an output may be left out), the ending 'error' where the sandbox failed. `sandbox_server` answers
so; any other service can.
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import asdict
from urllib.parse import urlsplit

from rlstep.scoring.programs.sandbox import Job, Limits, Result, SandboxError, read_result

_GRACE_S = 1.5
_LONGEST_REPORT = 1 << 16


def check_url(name: str, url: str) -> None:
    """Refuse what is no plain address.

    Raises:
        ValueError: naming the field.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{name} is {url!r}; it begins with http:// or https:// and a host")
    if parts.username or parts.password:
        raise ValueError(f"{name} holds a password; secrets stand in no configuration")


def run_remotely(url: str, job: Job, limits: Limits) -> Result:
    """Have a remote sandbox run a program against its tests.

    Raises:
        SandboxError: no answer in time (1.5 s after the limit on the program), or another one
            than a result.
    """
    until = time.monotonic() + limits.seconds + _GRACE_S
    body = json.dumps({**asdict(job), "limits": asdict(limits)}).encode()
    try:
        return read_result(_post(url, body, until))
    except (OSError, http.client.HTTPException) as error:
        raise SandboxError(f"{url}: {type(error).__name__}: {error}") from error


def _post(url: str, body: bytes, until: float) -> bytes:
    """The body of the answer. Follows no redirection."""
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    connection = kinds[parts.scheme](parts.netloc, timeout=_left(until))
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        assert connection.sock is not None
        connection.sock.settimeout(_left(until))
        response = connection.getresponse()
        if response.status != 200:
            raise SandboxError(f"{url}: status {response.status} {response.reason}")
        report = b""
        # A timeout of the socket is one of every read alone: what drips in must end too.
        while part := response.read1(_LONGEST_REPORT):
            report += part
            _left(until)
            if len(report) > _LONGEST_REPORT:
                raise SandboxError(f"{url}: an answer of more than {_LONGEST_REPORT} bytes")
        return report
    finally:
        connection.close()


def _left(until: float) -> float:
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds
