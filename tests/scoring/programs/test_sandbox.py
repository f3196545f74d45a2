"""What a program can do in the sandbox, and what it cannot."""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent

import pytest

from rlstep.scoring.programs import sandbox, sandbox_monitor
from rlstep.scoring.programs.sandbox import (
    Ending,
    Isolation,
    Job,
    Limits,
    Result,
    SandboxError,
    probe,
    run,
)
from rlstep.scoring.programs.sandbox_inside import decode, encode
from tests.waiting import descendants, gone, state_and_ticks, wait_for

ROOT = Path(__file__).parents[3]
CANARY = "canary-73a1"
PR_SET_CHILD_SUBREAPER = 36

needs_isolation = pytest.mark.skipif(
    probe().isolation is None, reason=f"no isolation on this machine: {probe()}"
)


def best() -> Isolation:
    return probe().isolation or Isolation.NONE


PATIENT = Limits(seconds=600.0)
"""For what ends by itself, on a busy machine as well."""


def attack(body: str, isolation: Isolation | None = None, limits: Limits = PATIENT) -> Result:
    """Call a function of that body; what it returns is an assertion's message."""
    job = Job(program=functions(body), test="raise AssertionError(f(0))", entry_point="f")
    return run(job, limits, isolation or best())


def answer(body: str, limits: Limits = PATIENT) -> str:
    result = attack(body, limits=limits)
    assert result.ending is Ending.FAILED, result
    return result.detail.removeprefix("AssertionError: ").partition(" in: ")[0]


def meets(
    attempts: dict[str, str], isolation: Isolation | None = None, limits: Limits = PATIENT
) -> None:
    """Call a function of each body in one sandbox: its answer, or error, begins as is said."""
    test = f"""
def check(candidate):
    for number, (body, wanted) in enumerate({attempts!r}.items()):
        try:
            found = str(candidate(number))
        except Exception as error:
            found = f"{{type(error).__name__}}: {{error}}"
        assert found.startswith(wanted), f"{{found}} of {{body}}"
"""
    job = Job(program=functions(*attempts), test=test, entry_point="f")
    result = run(job, limits, isolation or best())
    assert result.ending is Ending.PASSED, result


def functions(*bodies: str) -> str:
    text = "import ctypes, os, resource, signal, socket, subprocess, sys, threading, time\n"
    text += "libc = ctypes.CDLL(None, use_errno=True)\n"
    for number, body in enumerate(bodies):
        text += f"def f{number}():\n" + indent(body.strip(), "    ") + "\n"
    return text + "def f(number): return globals()[f'f{number}']()\n"


def solve(program: str, test: str = "assert f(3) == 4", setup: str = "") -> Result:
    job = Job(program=program, test=test, entry_point="f", setup=setup)
    return run(job, PATIENT, best())


def sandboxed_processes() -> set[str]:
    """Ids of this machine's processes that are in another process namespace than this test, but for
    those below another of pytest's workers, whose tests run programs at the same time. What has
    outlived its sandbox is below nobody."""
    own, found = os.readlink("/proc/self/ns/pid"), set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns" / "pid") != own:
                found.add(folder.name)
        except OSError:  # ended meanwhile
            continue
    others = set(descendants(os.getppid())) - set(descendants(os.getpid()))
    there = {name for name in found if Path("/proc", name).exists()}
    return there - set(map(str, others))


# --- verdicts


@pytest.mark.parametrize(
    ("program", "ending", "detail"),
    [
        ("def f(x): return x + 1", "passed", ""),
        ("f = lambda x: x + 1", "passed", ""),
        ("def f(x): return x", "failed", "AssertionError in: assert f(3) == 4"),
        ("def f(x): return None", "failed", "AssertionError in: assert f(3) == 4"),
        ("def f(x) return", "failed", "SyntaxError: expected ':' (program.py, line 1)"),
        ("def f(x): return 1 / 0", "failed", "ZeroDivisionError: division by zero in: "),
        ("def f(x): raise UnicodeDecodeError('a', b'', 0, 1, 'b')", "failed", "UnicodeDecodeError"),
        ("def g(x): return x", "failed", "NameError: the program defines no function 'f'"),
        ("f = 4", "failed", "NameError: the program defines no function 'f'"),
        ("def f(x): return object()", "failed", "TypeError: object is no plain data"),
        ("def f(x):\n    a = []\n    a.append(a)\n    return a", "failed", "RecursionError"),
        ("def f(x): return f(x)", "failed", "RecursionError: maximum recursion depth exceeded"),
        ("def f(x): return 'a' * (9 << 20)", "failed", "its answer has more than 8 MiB"),
        ("def f(x): return input()", "failed", "EOFError"),
        ("def f(x):\n    while True: pass", "timeout", "no verdict within 2.0 s"),
        ("import numpy_that_is_not_here", "failed", "ModuleNotFoundError"),
        ("", "failed", "NameError"),
        ("\x00", "failed", "null bytes"),
        ("def f(x): return '\ud800'", "failed", "surrogates"),
    ],
)
def test_how_a_program_fares(program: str, ending: str, detail: str):
    limits = Limits(seconds=2.0) if ending == "timeout" else PATIENT
    job = Job(program=program, test="assert f(3) == 4", entry_point="f")
    result = run(job, limits, best())
    assert result.ending == ending, result
    assert detail in result.detail
    assert bool(detail) == bool(result.detail)


def test_all_of_the_time_counts():
    result = attack("time.sleep(60)", limits=Limits(seconds=0.5))
    assert result == Result(ending=Ending.TIMEOUT, detail="no verdict within 0.5 s")


def test_the_time_begins_with_the_program(monkeypatch: pytest.MonkeyPatch):
    """By a clock of the test: on it the start takes a minute, and the program no time at all."""
    clock = iter([0.0, 0.0, *[60.0] * 100])
    waits: list[float] = []

    class Poll:
        """Of every descriptor one is ready at once: the program's start, then its end."""

        def __init__(self) -> None:
            self.registered: list[int] = []

        def register(self, descriptor: int, _: int) -> None:
            self.registered.append(descriptor)

        def unregister(self, descriptor: int) -> None:
            self.registered.remove(descriptor)

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            waits.append(milliseconds)
            return [(8 if 8 in self.registered else 9, select.POLLIN)]

    class Started:
        output, result, pidfd = 7, 8, 9

        def __init__(self, options: dict) -> None:
            pass

    monkeypatch.setattr(sandbox_monitor.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sandbox_monitor.select, "poll", Poll)
    monkeypatch.setattr(sandbox_monitor, "_Sandbox", Started)
    monkeypatch.setattr(sandbox_monitor, "_result", lambda *_: {"ending": "passed", "detail": ""})
    options = {"start_s": 20.0, "seconds": 2.5, "output_kb": 1, "kept_kb": 0}
    assert sandbox_monitor.watch(options)["ending"] == "passed"
    assert waits == [20_000.0, 2_500.0]


def test_a_start_without_end_is_an_error_of_nobodys_program(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "_START_S", 1.0)
    with pytest.raises(SandboxError, match=r"no program was started within 1\.0 s"):
        solve("def f(x): return x + 1", setup="import time\ntime.sleep(60)")


def test_errors_of_the_program_reach_the_tests():
    test = """
def check(candidate):
    for call, kind in ((1, ValueError), (2, KeyError), (3, Exception)):
        try:
            candidate(call)
        except kind as error:
            assert "bad" in str(error)
        else:
            assert False
"""
    program = """
class Mine(Exception): pass
def f(x): raise {1: ValueError, 2: KeyError, 3: Mine}[x]("bad")
"""
    result = solve(program, test)
    assert result.ending is Ending.PASSED, result


def test_the_same_program_iterates_sets_in_the_same_order():
    body = "return ','.join({'a', 'b', 'c', 'd', 'e', 'f', 'g'})"
    assert answer(body) == answer(body)


def test_the_tests_have_the_setup_and_not_the_program():
    setup = "import math\ndef helper(x): return math.floor(x) + 1\n"
    program = setup + "def helper(x): return 'mine'\ndef f(x): return x + 1"
    assert solve(program, "assert f(3) == helper(3.5)", setup).ending is Ending.PASSED


@pytest.mark.parametrize(
    "test", ["assert check(3) == 4", "def check(candidate):\n    assert candidate(3) == 4"]
)
def test_the_tested_function_may_be_named_check(test: str):
    for program, ending in (("def check(x): return x + 1", "passed"), ("check = abs", "failed")):
        job = Job(program=program, test=test, entry_point="check")
        assert run(job, PATIENT, best()).ending == ending


def test_answers_are_copies_and_keep_their_types():
    test = """
value = [1, (2.5, None), {"a": {1, 2}, (1, 2): b"x"}, True, -(1 << 70), "é\\ud800", 1j]
def check(candidate):
    back = candidate(value, more=value)
    assert back == [value, value] and back[0] is not value
    assert repr(back[0]) == repr(value)
"""
    assert solve("def f(x, more): return [x, more]", test).ending is Ending.PASSED


@pytest.mark.parametrize(
    "value",
    [0, -1, 1 << 64, -(1 << 9000), True, None, 0.1, float("-inf"), "", "\ud800é", b"\x00", 1 - 2j,
     [], (), set(), frozenset({1}), {}, {1: [(2,)], (1, 2): {"dict": 3}}],
)  # fmt: skip
def test_plain_data_comes_back_the_same(value: object):
    back = decode(json.loads(json.dumps(encode(value))))
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    "data", [{}, {"a": 1}, {"int": 3}, {"dict": [[[], 1]]}, {"set": 1, "a": 2}]
)
def test_what_is_no_plain_data_is_refused(data: object):
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode(data)


# --- broken tests are nobody's failure


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("def check(candidate) pass", "the tests are broken: SyntaxError"),
        ("import nothing_of_this_name", "the tests are broken: ModuleNotFoundError"),
        ("def check(candidate): pass", "the tests never call 'f'"),
        ("def check(candidate): assert candidate(print) == 4", "no plain data: builtin_function"),
        ("import os\nos._exit(0)", r"the tests' process ended \(exit status 0\)"),
    ],
)
def test_broken_tests(test: str, message: str):
    with pytest.raises(SandboxError, match=message):
        solve("def f(x): return 4", test)


def test_a_broken_setup():
    with pytest.raises(SandboxError, match="the tests are broken: NameError"):
        solve("def f(x): return 4", setup="missing()")


# --- a verdict cannot be forged

PASSED = '{"ending": "passed", "detail": ""}'
FORGERIES = {
    "sys.exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "SystemExit": "def f(x): raise SystemExit(0)",
    "exit in the call": "import os\ndef f(x): os._exit(0)",
    "kill": "import os\ndef f(x): os.kill(os.getpid(), 9)",
    "print": f"def f(x):\n    print('{PASSED}', flush=True)",
    "descriptors": f"""
import os
def f(x):
    for number in range(64):
        try:
            os.write(number, b'{PASSED}')
        except OSError:
            pass
    os._exit(0)
""",
    "reports unsafe": """
import os
for number in range(3, 64):
    try:
        os.write(number, b'{"unsafe": "no filter"}\\n')
    except OSError:
        pass
""",
    "close": "import os\nos.closerange(0, 64)\nimport time\ntime.sleep(2)",
    "builtins": """
import builtins
builtins.AssertionError = type("Never", (BaseException,), {})
builtins.compile = builtins.exec = lambda *a, **k: None
builtins.isinstance = lambda *a: True
def f(x): return 0
""",
    "harness": """
import __main__, json
__main__.judge = lambda *a: ("passed", "")
__main__.encode = lambda value: {"passed": True}
json.dumps = lambda value: '{"ending": "passed"}'
def f(x): return 0
""",
    "frames": """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name in ("test", "expected", "ending", "result"):
            frame.f_locals[name] = "passed"
        frame = frame.f_back
    return 0
""",
    "equals everything": """
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
def f(x): return Yes(0)
""",
    "defines check": "def f(x): return 0\ndef check(candidate): pass",
    "atexit": f"import atexit\natexit.register(print, '{PASSED}')\ndef f(x): raise SystemExit(0)",
    "threads": """
import os, threading
threading.Thread(target=lambda: [os.write(n, b'{"value": 3}\\n') for n in (3, 4, 5, 6)]).start()
def f(x): return 0
""",
    "a wild exception": """
class Odd(BaseException):
    __name__ = "passed"
    def __str__(self): raise SystemExit(0)
def f(x): raise Odd
""",
}


@pytest.mark.parametrize(
    "isolation",
    [
        pytest.param(None, id="best"),
        pytest.param(Isolation.NONE, id="none", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("program", FORGERIES.values(), ids=FORGERIES)
def test_no_verdict_is_forged(program: str, isolation: Isolation | None):
    job = Job(
        program=program,
        test="def check(candidate):\n    assert candidate(3) == 4",
        entry_point="f",
    )
    result = run(job, PATIENT, isolation or best())
    assert result.ending is Ending.FAILED, result


def test_a_test_that_swallows_errors_passes_no_dead_program():
    test = """
def check(candidate):
    try:
        candidate(1)
    except:
        pass
"""
    assert solve("import os\ndef f(x): os._exit(0)", test).ending is Ending.FAILED


# --- programs that do what they must not
#
# All of them are harmless where a guard does not hold: what is started ends at once, signals are
# number 0, which only asks, and limits are low.

REFUSED = "PermissionError"
SEIZE = "libc.ptrace(0x4206, os.getppid(), 0, 0)"
"""Traces the tests' process, without stopping it."""
MOUNT = "libc.mount(b'.', b'.', None, 4096, None)"
"""Binds the program's own folder onto itself."""
CAPABILITIES = """
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, data) == 0
return sum(data)
"""


@pytest.mark.parametrize("isolation", [None, Isolation.NONE], ids=["best", "none"])
class TestEverywhere:
    """What holds with and without namespaces."""

    def test_starting_processes(self, isolation: Isolation | None):
        fork = 57 if os.uname().machine == "x86_64" else 435
        end = "if child == 0: os._exit(0)\nreturn child"
        attempts = {
            f"child = os.fork()\n{end}": REFUSED,
            "subprocess.Popen(['/bin/true'])": REFUSED,
            "os.posix_spawn('/bin/true', ['true'], {})": REFUSED,
            f"child = libc.syscall({fork})\n{end}": "-1",
            "import multiprocessing\nmultiprocessing.Process(target=print).start()": REFUSED,
        }
        meets(attempts, isolation)

    @pytest.mark.parametrize(
        "body", ["bytearray(256 << 20)", "return [bytearray(1 << 20) for _ in range(256)]"]
    )
    def test_memory(self, body: str, isolation: Isolation | None):
        limits = Limits(seconds=600.0, memory_mb=128)
        assert attack(body, isolation, limits).ending is Ending.MEMORY

    def test_memory_out_of_sight_of_the_limit(self, isolation: Isolation | None):
        attempts = {
            "os.memfd_create('more')": REFUSED,
            "return libc.shmget(0, 1 << 20, 0o1600)": "-1",
            "open('large', 'wb').write(bytes(2 << 20))": "OSError: [Errno 27] File too large",
        }
        meets(attempts, isolation, Limits(seconds=600.0, file_mb=1))

    @pytest.mark.parametrize(
        "body",
        [
            "for _ in range(100): print('a' * 1000)",
            "for _ in range(9000): os.write(2, b'a')",
            "os.write(1, bytes(1 << 16))",
        ],
    )
    def test_too_much_output(self, body: str, isolation: Isolation | None):
        cut = Result(ending=Ending.OUTPUT, detail="more than 8 KiB of output")
        assert attack(body, isolation, Limits(seconds=600.0, output_kb=8)) == cut

    def test_the_network(self, isolation: Isolation | None):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = ("127.0.0.1", server.getsockname()[1])
            attempts = {f"socket.create_connection({address}, 5)": REFUSED}
            for family in ("AF_UNIX", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"):
                attempts[f"socket.socket(socket.{family}, socket.SOCK_RAW)"] = REFUSED
            attempts["socket.socketpair(type=socket.SOCK_DGRAM)"] = REFUSED
            attempts["import asyncio\nasyncio.run(asyncio.sleep(0))"] = "None"
            meets(attempts, isolation)

    def test_killing_others(self, isolation: Isolation | None):
        others = ("os.getpid()", "os.getppid()", "1", "0", "-1", str(os.getpid()))
        attempts = {f"os.kill({other}, 0)": REFUSED for other in others}
        attempts["os.killpg(0, 0)"] = REFUSED
        attempts["resource.prlimit(os.getppid(), resource.RLIMIT_CPU)"] = REFUSED
        attempts[f"return {SEIZE}"] = "-1"
        meets(attempts, isolation)

    def test_having_the_kernel_kill_others(self, isolation: Isolation | None):
        """A file that is ready to be read sends a signal to its owner."""
        pipe = "import fcntl, struct\nend, _ = os.pipe()\n"
        pair = "import fcntl, struct\nend, _ = socket.socketpair()\n"
        own = "struct.pack('i', os.getpid())"
        attempts = {
            f"{pipe}fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())": REFUSED,
            f"{pipe}fcntl.fcntl(end, 15, struct.pack('ii', 1, os.getpid()))": REFUSED,
            f"{pipe}fcntl.fcntl(end, fcntl.F_SETSIG, 0)": REFUSED,
            f"{pair}fcntl.ioctl(end, 0x8901, {own})": REFUSED,
            f"{pair}fcntl.ioctl(end, 0x8902, {own})": REFUSED,
        }
        meets(attempts, isolation)

    @pytest.mark.parametrize(
        "body",
        [
            "threading.Event().wait(60)",
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ntime.sleep(60)",
            "sum(range(10**10))",  # in C, where no signal handler interrupts it
        ],
    )
    def test_hanging(self, body: str, isolation: Isolation | None):
        assert attack(body, isolation, Limits(seconds=1.0)).ending is Ending.TIMEOUT

    def test_a_crash_in_c(self, isolation: Isolation | None):
        result = attack("os.abort()", isolation)
        assert result.ending is Ending.FAILED and "before it answered" in result.detail

    def test_the_environment(self, isolation: Isolation | None, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("WANDB_API_KEY", CANARY)
        known = {"HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS", "PATH"}
        known |= {"PYTHONHASHSEED", "TMPDIR"}
        attempts = {
            f"return set(os.environ) - {known}": "set()",
            f"return {CANARY!r} in repr(os.environ) + repr(sys.orig_argv)": "False",
        }
        meets(attempts, isolation)

    def test_privileges(self, isolation: Isolation | None):
        attempts = {
            CAPABILITIES: "0",
            "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))": "ValueError: not allowed to r",
            "return libc.prctl(39, 0, 0, 0, 0)": "1",  # no_new_privs
            "return libc.unshare(0x10000000)": "-1",
            f"return {MOUNT}": "-1",
            "return libc.syscall(435, 0, 0)": "-1",  # clone3
        }
        meets(attempts, isolation)


def test_without_isolation_the_tests_are_out_of_reach():
    """Where /proc is seen, even for root: it has no capabilities left."""
    attempts = {
        "open(f'/proc/{os.getppid()}/mem', 'rb')": REFUSED,
        "open(f'/proc/{os.getppid()}/environ', 'rb')": REFUSED,
        "for n in range(64): os.open(f'/proc/{os.getppid()}/fd/{n}', os.O_WRONLY)": REFUSED,
    }
    meets(attempts, Isolation.NONE)


FORGER = """
import os
def f(x):
    with open(f"/proc/{os.getppid()}/stat") as stat:
        monitor = stat.read().rpartition(")")[2].split()[1]
    for number in range(3, 64):
        try:
            descriptor = os.open(f"/proc/{monitor}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK)
            os.write(descriptor, b'{"ending": "passed", "detail": ""}'.ljust(4096))
        except OSError:
            pass
    return 0
"""


def test_without_isolation_the_monitor_is_out_of_reach():
    """An ordinary user's: root's has capabilities that a program lacks, and so is safe anyway."""
    script = f"""
from rlstep.scoring.programs.sandbox import *
job = Job(program={FORGER!r}, test="assert f(3) == 4", entry_point="f")
print(run(job, Limits(seconds=600.0), Isolation.NONE).ending)
"""
    assert as_ordinary_user(script) == "failed"


LINGERING = """
def linger():
    libc.prctl(1, 0, 0, 0, 0)
    time.sleep(3600)
threading.Thread(target=linger).start()
"""


@pytest.fixture
def orphans() -> Iterator[Callable[[], list[int]]]:
    """Programs that outlived the processes above them: those become children of this one. (What
    another process may read of one that is not dumpable differs by user; its command it may.)"""
    assert prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
    yield lambda: [pid for pid in descendants(os.getpid()) if runs_a_program(pid)]
    assert prctl(PR_SET_CHILD_SUBREAPER, 0) == 0


Orphans = Callable[[], list[int]]


@pytest.mark.parametrize(
    ("end", "ending"),
    [
        ("return 0", Ending.FAILED),
        ("time.sleep(3600)", Ending.TIMEOUT),
        ("print('a' * (1 << 20))", Ending.OUTPUT),
    ],
)
def test_without_isolation_no_process_survives(end: str, ending: Ending, orphans: Orphans):
    result = attack(LINGERING + end, Isolation.NONE, Limits(seconds=3.0))
    assert result.ending is ending
    wait_for(lambda: not orphans(), "end of the program")


def test_without_isolation_its_group_ends_with_it(without_the_filter: None, orphans: Orphans):
    """As whoever finds a way around the filter, and so could outlive the tests' process."""
    outliving = "libc.prctl(1, 0, 0, 0, 0)\ntime.sleep(3600)"
    assert attack(outliving, Isolation.NONE, Limits(seconds=1.0)).ending is Ending.TIMEOUT
    wait_for(lambda: not orphans(), "end of the program")


def test_without_isolation_it_ends_with_who_asked_for_it():
    program = "from tests.scoring.programs.test_sandbox import *\n"
    program += "attack(LINGERING + 'time.sleep(3600)', Isolation.NONE)"
    with started(program) as parent:
        inner = wait_for(asleep_below(parent), "program")
        parent.kill()
    wait_for(gone([inner]), "end of the program")


def test_without_isolation_nothing_stays_on_disk():
    result = attack("open('mine', 'w').close()\nreturn os.getcwd()", Isolation.NONE)
    folder = result.detail.removeprefix("AssertionError: ").partition(" in: ")[0]
    assert folder.startswith("/") and not Path(folder).exists()


@needs_isolation
class TestIsolated:
    """What takes namespaces."""

    def test_the_environment_of_others(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("WANDB_API_KEY", CANARY)
        places = (f"/proc/{os.getpid()}/environ", "/proc/1/environ", "/proc/self/environ")
        attempts = {f"open({place!r})": "FileNotFoundError" for place in places}
        meets({**attempts, "return os.getpid() < 10": "True"})

    def test_the_file_system(self, tmp_path: Path):
        secret = tmp_path / "secret"
        secret.write_text(CANARY)
        hidden = (secret, "/etc/passwd", "/etc/shadow", sandbox.__file__, "/dev/shm", "/sys")
        attempts = {f"os.stat({str(place)!r})": "FileNotFoundError" for place in hidden}
        for folder in ("/", "/usr", "/bin", "/dev", sys.base_prefix):
            attempts[f"return os.statvfs({folder!r}).f_flag & os.ST_RDONLY"] = "1"
        attempts["open('/mine', 'w')"] = "OSError: [Errno 30]"
        attempts["open('/tmp/mine', 'w').write('a')\nreturn os.listdir('/tmp')"] = "['mine']"
        meets(attempts)
        meets({"return os.listdir('/tmp')": "[]"})  # nothing is left for the next one

    def test_a_full_disk(self):
        attempts = {
            "for n in range(6): open(f'{n}', 'wb').write(bytes(1 << 20))": "OSError: [Errno 28]",
            "for n in range(4200): open(f'empty{n}', 'w').close()": "OSError: [Errno 28]",
        }
        meets(attempts, limits=Limits(seconds=600.0, file_mb=1))

    def test_threads(self):
        body = "for n in range(3): threading.Thread(target=time.sleep, args=(2,)).start()"
        limits = Limits(seconds=600.0, processes=3)
        meets({body: "RuntimeError: can't start new thread"}, limits=limits)

    def test_identity(self):
        meets({"return {*os.getresuid(), *os.getresgid()}": "{65534}"})

    def test_namespaces_of_its_own(self):
        """Seen from outside, while it runs."""
        program = "import json, os, sys\nfrom tests.scoring.programs.test_sandbox import attack\n"
        program += "attack('time.sleep(3600)')"
        with started(program) as parent:
            inner = wait_for(asleep_below(parent), "program")
            own = os.getpid()
            kinds = ("user", "pid", "mnt", "net", "ipc", "uts")
            shared = [kind for kind in kinds if namespace(inner, kind) == namespace(own, kind)]
            parent.kill()
        assert shared == []

    def test_it_ends_with_who_asked_for_it(self):
        program = "from tests.scoring.programs.test_sandbox import attack\n"
        program += "attack('time.sleep(3600)')"
        before = sandboxed_processes()
        with started(program) as parent:
            inner = wait_for(asleep_below(parent), "program")
            parent.send_signal(signal.SIGKILL)
            parent.wait()
        wait_for(gone([inner]), "end of the program")
        wait_for(lambda: not sandboxed_processes() - before, "end of the sandbox")

    def test_nothing_survives(self, without_the_filter: None):
        """Without the filter that forbids processes: the process namespace alone must do."""
        before = sandboxed_processes()
        program = """
import os, time
if os.fork() == 0:
    os.setsid()
    os.fork()
time.sleep(60)
"""
        job = Job(program=program, test="f()", entry_point="f")
        result = run(job, Limits(seconds=1.0), best())
        assert result.ending is Ending.TIMEOUT
        assert sandboxed_processes() <= before

    def test_every_layer_holds_without_the_filter(self, without_the_filter: None):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = ("127.0.0.1", server.getsockname()[1])
            attempts = {
                f"socket.create_connection({address}, 5)": "OSError: [Errno 101] Network is unr",
                f"return {SEIZE}": "-1",
                "os.kill(-1, 0)": "ProcessLookupError",  # there is nobody else
                f"os.kill({os.getpid()}, 0)": "ProcessLookupError",
                f"return {MOUNT}": "-1",
            }
            meets(attempts)
        result = attack("os.kill(os.getpid(), 9)")
        assert result.ending is Ending.FAILED and "SIGKILL" in result.detail

    def test_the_number_of_processes_is_limited(self, without_the_filter: None):
        """Again without the filter, as whoever finds a way around it."""
        body = "for n in range(3):\n    try:\n        pid = os.fork()\n"
        body += "    except OSError:\n        return n\n    if pid == 0: time.sleep(2)\nreturn 3"
        if os.getuid() == 0 and probe().isolation is Isolation.BUBBLEWRAP:
            pytest.skip("root's processes are not counted")
        assert int(answer(body, Limits(seconds=600.0, processes=3))) < 3


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def asleep_below(asker: subprocess.Popen[bytes]) -> Callable[[], int]:
    """The program's process, under the asker, the monitor and the tests' process, once it sleeps
    through a row of looks: the probe's program, which is there before it, does not."""
    looks: list[tuple[int, str, int]] = []

    def look() -> int:
        assert asker.poll() is None, "who asked for the sandbox has ended"
        found = [pid for pid in descendants(asker.pid) if runs_a_program(pid)]
        looks.extend((one, *state_and_ticks(one)) for one in found)
        same = len(looks) > 25 and len(set(looks[-25:])) == 1 and looks[-1][1] == "S"
        return looks[-1][0] if same else 0

    return look


def prctl(option: int, value: int) -> int:
    return ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def runs_a_program(pid: int) -> bool:
    try:
        return b"\0program\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # ended meanwhile
        return False


def started(program: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment)


def as_ordinary_user(script: str) -> str:
    """What a script prints that imports the sandbox.

    Under the system's interpreter, since others may not look into root's home.
    """
    python, user = sys.executable, {}
    if os.getuid() == 0:
        python, user = "/usr/bin/python3", {"user": 1234, "group": 1234, "extra_groups": []}
    enough = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        subprocess.run([python, "-c", enough], check=True, cwd="/", **user)  # type: ignore[call-overload]
        subprocess.run(["/bin/ls", sandbox.__file__], check=True, cwd="/", **user)  # type: ignore[call-overload]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no Python 3.11 and no rlstep that another user may read: {error}")
    done = subprocess.run(
        [python, "-B", "-c", script],
        **user,  # type: ignore[call-overload]
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done
    return done.stdout.strip()


@pytest.fixture
def without_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every system call is let through (BPF: return SECCOMP_RET_ALLOW)."""
    monkeypatch.setattr(
        sandbox, "seccomp_filter", lambda _: struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
    )


# --- what a machine offers

OFFER = "from rlstep.scoring.programs.sandbox import probe; print(probe())"


def test_what_is_offered_is_printed():
    done = subprocess.run(
        [sys.executable, "-c", OFFER], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.startswith(str(probe().isolation or "no isolation (namespaces: "))


def test_where_the_kernel_allows_namespaces_the_probe_finds_them():
    """Else all tests of what they hide would be skipped, and nobody would know why."""
    namespaces = ("--user", "--map-root-user", "--mount", "--pid", "--net", "--fork")
    allowed = subprocess.run(["unshare", *namespaces, "true"], capture_output=True, text=True)
    if allowed.returncode != 0:
        pytest.skip(f"this machine allows no namespaces: {allowed.stderr.strip()}")
    assert probe().isolation is Isolation.NAMESPACES, probe()


@needs_isolation
@pytest.mark.skipif(os.getuid() != 0, reason="this is no root, and so itself the test")
def test_an_ordinary_user_has_it_too():
    assert as_ordinary_user(OFFER) == "namespaces"


def test_bubblewrap_runs_programs_too():
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    assert run(sandbox._PROBE, PATIENT, Isolation.BUBBLEWRAP).ending is Ending.PASSED


def test_without_any_isolation_the_probe_says_why(monkeypatch: pytest.MonkeyPatch):
    """A kernel that refuses namespaces (one of its calls has a wrong number), and no bwrap."""
    monkeypatch.setenv("PATH", "/nowhere")
    boot = sandbox._BOOT.replace("; main()", "; sandbox_namespaces._NEW_USER = 0x1; main()")
    boot = boot.replace("import main", "import main, sandbox_namespaces")
    monkeypatch.setattr(sandbox, "_BOOT", boot)
    found = probe.__wrapped__()
    assert found.isolation is None
    assert "unshare: Invalid argument" in found.refused[Isolation.NAMESPACES]
    assert found.refused[Isolation.BUBBLEWRAP] == "bwrap is not installed"
    assert str(found).startswith("no isolation (namespaces: ")


def test_the_probe_believes_nothing_but_what_it_sees():
    """Its program, run without isolation, finds what a bare process sees."""
    result = run(sandbox._PROBE, PATIENT, Isolation.NONE)
    assert result.ending is Ending.FAILED and "'first processes': False" in result.detail


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"seconds": 0.0}, "limits.seconds is 0.0; the smallest valid value is 0.1"),
        ({"memory_mb": 1}, "limits.memory_mb is 1; the smallest valid value is 64"),
        ({"processes": 1}, "limits.processes is 1; the smallest valid value is 2"),
        ({"file_mb": 0}, "limits.file_mb is 0"),
        ({"output_kb": 0}, "limits.output_kb is 0"),
    ],
)
def test_refused_limits(limits: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)  # type: ignore[arg-type]
