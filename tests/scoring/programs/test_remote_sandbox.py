"""The remote sandbox: client and server together, and the client with servers that misbehave."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytest

from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.scoring.programs import sandbox_server
from rlstep.scoring.programs.code_tests import CodeTests, Tests
from rlstep.scoring.programs.remote_sandbox import run_remotely
from rlstep.scoring.programs.sandbox import (
    Ending,
    Isolation,
    Job,
    Limits,
    Probe,
    Result,
    SandboxError,
    SandboxUnavailable,
    probe,
)
from rlstep.scoring.programs.sandbox_server import SandboxServer
from rlstep.types import OutcomeScore

JOB = Job(program="def f(x): return x + 1", test="assert f(3) == 4", entry_point="f")
WRONG = Job(program="def f(x): return x", test="assert f(3) == 4", entry_point="f")
BROKEN = Job(program="def f(x): return x", test="assert (", entry_point="f")
PATIENT = Limits(seconds=100.0)

needs_isolation = pytest.mark.skipif(
    probe().isolation is None, reason=f"no isolation on this machine: {probe()}"
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SandboxServer(("127.0.0.1", 0), processes=2) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def answering(*parts: bytes, between_s: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes to its one visitor, and then nothing until it is left."""
    left = threading.Event()

    def serve() -> None:
        visitor, _ = listener.accept()
        with visitor:
            visitor.recv(1 << 16)
            for part in parts:
                visitor.sendall(part)
                if left.wait(between_s):
                    return
            if between_s:
                left.wait(60.0)
            else:  # to close on what is not yet read would reset the connection
                visitor.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while visitor.recv(1 << 16):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/run?queue=1"
        left.set()
        thread.join(10.0)


@needs_isolation
def test_there_and_back(url: str):
    assert run_remotely(url, JOB, PATIENT).ending is Ending.PASSED
    result = run_remotely(url, WRONG, PATIENT)
    assert result.ending is Ending.FAILED and "assert f(3) == 4" in result.detail
    with pytest.raises(SandboxError, match="the tests are broken: SyntaxError"):
        run_remotely(url, BROKEN, PATIENT)


@needs_isolation
async def test_the_verifier_in_its_pool(url: str):
    tests = Tests(test=JOB.test, entry_point="f").answer()
    items = [(JOB.program, tests), (WRONG.program, tests)]
    verifier = CodeTests(seconds=100.0, url=url)
    with VerifierPool(verifier, workers=1, deadline_s=300.0) as pool:
        outcomes = await pool.verify(items)
    assert [o.value for o in outcomes if isinstance(o, OutcomeScore)] == [1.0, 0.0]


def test_a_sandbox_that_is_not_there_is_refused_before_a_run():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(SandboxUnavailable, match=rf"code_tests.url: {url}: ConnectionRefused"):
        CodeTests(url=url).check(60.0)


OK = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503 Busy"),
        (b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (OK + b"passed", "no report of a sandbox: b'passed'"),
        (OK + b'{"ending": "fine", "detail": ""}', "no report of a sandbox"),
        (OK + b'["passed", ""]', "no report of a sandbox"),
        (OK + b"a" * 70_000, "an answer of more than 65536 bytes"),
        (b"SSH-2.0\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
        (OK + b'{"ending": "error", "detail": "full"}', "full"),
    ],
)
def test_answers_that_are_no_result(answer: bytes, message: str):
    with answering(answer) as url, pytest.raises(SandboxError, match=message):
        run_remotely(url, JOB, PATIENT)


@pytest.mark.parametrize("parts", [[b"", b""], [OK] + [b" "] * 1000], ids=["silent", "dripping"])
def test_a_slow_answer_ends_at_the_deadline(parts: list[bytes]):
    with (
        answering(*parts, between_s=0.05) as url,
        pytest.raises(SandboxError, match="TimeoutError"),
    ):
        run_remotely(url, JOB, Limits(seconds=0.5))


def test_a_result_that_comes_in_pieces():
    parts = [OK, b'{"ending": "pas', b'sed", "detail": ""}']
    with answering(*parts) as url:
        assert run_remotely(url, JOB, PATIENT).ending is Ending.PASSED


@needs_isolation
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"{}", 400),
        (b"3", 400),
        (json.dumps({"program": "", "test": "", "entry_point": "f", "limits": {}}).encode(), 200),
        (json.dumps({"program": 3, "test": "", "entry_point": "f", "limits": {}}).encode(), 400),
        (json.dumps({"program": "", "limits": {"seconds": 1e9}}).encode(), 400),
        (json.dumps({"program": "", "limits": {"patience": 1}}).encode(), 400),
        (b"a" * ((4 << 20) + 1), 413),
    ],
)
def test_requests_of_all_kinds(url: str, body: bytes, status: int):
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    try:
        connection.putrequest("POST", "/")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body if status != 413 else None)
        assert connection.getresponse().status == status
    finally:
        connection.close()


class Counting(SandboxServer):
    """It has one place, which is taken, and says when it is done with a request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), processes=1)
        self.done = threading.Event()
        self.places.acquire()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.done.set()


@contextmanager
def full() -> Iterator[Counting]:
    with Counting() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def asking(server: SandboxServer) -> socket.socket:
    """A connection on which a request has been sent."""
    body = json.dumps({**asdict(JOB), "limits": {"seconds": 60.0}}).encode()
    connection = socket.create_connection(("127.0.0.1", server.server_port))
    connection.sendall(f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@needs_isolation
def test_a_server_without_a_place_says_so():
    with full() as server:
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(SandboxError, match="status 503 busy"):
            run_remotely(url, JOB, Limits(seconds=0.5))
        server.places.release()
        assert run_remotely(url, JOB, PATIENT).ending is Ending.PASSED


@needs_isolation
def test_nothing_runs_for_who_has_left(monkeypatch: pytest.MonkeyPatch):
    ran: list[Job] = []
    monkeypatch.setattr(sandbox_server, "run", lambda job, *_: ran.append(job))
    with full() as server:
        asking(server).close()
        server.places.release()
        assert server.done.wait()
        assert server.places.acquire()  # and the place is free again
    assert ran == []


@needs_isolation
def test_an_answer_that_nobody_waits_for_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def leave(*_: object) -> Result:
        reset = struct.pack("ii", 1, 0)  # at once, so that the answer fails
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        connection.close()
        return Result(ending=Ending.PASSED, detail="")

    monkeypatch.setattr(sandbox_server, "run", leave)
    with full() as server:
        connection = asking(server)
        server.places.release()
        assert server.done.wait()
    assert capfd.readouterr().err == ""


def test_a_machine_without_isolation_serves_nothing(monkeypatch: pytest.MonkeyPatch):
    refused = {Isolation.NAMESPACES: "unshare: Operation not permitted"}
    monkeypatch.setattr(sandbox_server, "probe", lambda: Probe(isolation=None, refused=refused))
    with pytest.raises(SandboxUnavailable, match=r"no isolation .namespaces: unshare"):
        SandboxServer(("127.0.0.1", 0), processes=1)
