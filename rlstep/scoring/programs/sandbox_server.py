"""A sandbox for other machines, over HTTP: what `remote_sandbox` asks.

    python -m rlstep.scoring.programs.sandbox_server [--host 127.0.0.1] [--port 8000]
        [--processes 4]

It asks for no password: whoever reaches it has programs run in its sandbox. It refuses to start on
a machine that offers no isolation. Where all its processes are taken, a request waits for one as
long as its program may take, then it is answered by 503: a client that waits a little longer than
its program's time (`remote_sandbox`) still hears it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rlstep.checks import at_least, between
from rlstep.scoring.programs.sandbox import (
    Isolation,
    Job,
    Limits,
    SandboxError,
    SandboxUnavailable,
    probe,
    run,
)

_LONGEST_REQUEST = 4 << 20
_LONGEST_S, _MOST_MB = 120.0, 4096
"""What a request may ask for."""


class SandboxServer(ThreadingHTTPServer):
    """Serves until it is shut down.

    Raises:
        SandboxUnavailable: this machine offers no isolation.
        ValueError: `processes` is below 1.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], processes: int) -> None:
        at_least("processes", processes, 1)
        found = probe()
        if found.isolation is None:
            raise SandboxUnavailable(f"this machine offers {found}")
        self.isolation: Isolation = found.isolation
        self.places = threading.BoundedSemaphore(processes)
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: SandboxServer
    timeout = 60.0

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client may leave whenever it likes
            super().handle()

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST_REQUEST:
            self.send_error(413, f"a request has a length of at most {_LONGEST_REQUEST} bytes")
            return
        try:
            job, limits = _read(self.rfile.read(int(length)))
        except (ValueError, TypeError, KeyError) as error:
            self.send_error(400, "no job and limits", str(error)[:500])
            return
        if not self.server.places.acquire(timeout=limits.seconds):
            self.send_error(503, "busy")
            return
        try:
            if self._client_has_left():
                return
            report = asdict(run(job, limits, self.server.isolation))
        except SandboxError as error:
            report = {"ending": "error", "detail": str(error)}
        finally:
            self.server.places.release()
        body = json.dumps(report).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _client_has_left(self) -> bool:
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        return bool(poll.poll(0))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a run asks thousands of times."""


def _read(body: bytes) -> tuple[Job, Limits]:
    values = json.loads(body)
    if not isinstance(values, dict):
        raise TypeError("a request is a JSON object")
    limits = Limits(**values.pop("limits"))
    between("limits.seconds", limits.seconds, 0.1, _LONGEST_S)
    between("limits.memory_mb", limits.memory_mb, 64, _MOST_MB)
    if not all(isinstance(value, str) for value in values.values()):
        raise TypeError("program, test, entry_point and setup are texts")
    return Job(**values), limits


def main() -> None:
    parser = argparse.ArgumentParser(description="Run programs in a sandbox for other machines.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=4, help="programs at the same time")
    arguments = parser.parse_args()
    with SandboxServer((arguments.host, arguments.port), arguments.processes) as server:
        print(f"{server.isolation} at http://{arguments.host}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
