"""What a program can do in the sandbox, and what it cannot."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlstep.scoring import sandbox
from rlstep.scoring.sandbox import Ending, Isolation, Job, Limits, Result, SandboxError, probe, run
from rlstep.scoring.sandbox_inside import decode, encode

ROOT = Path(__file__).parents[2]
CANARY = "canary-73a1"

needs_isolation = pytest.mark.skipif(
    probe().isolation is None, reason=f"no isolation on this machine: {probe()}"
)


def attack(body: str, isolation: Isolation | None = None, **limits: float) -> Result:
    """Run a function of that body; its answer is the detail, unless it ends otherwise."""
    lines = "\n    ".join(body.strip().split("\n"))
    job = Job(
        program=f"import ctypes, os, signal, socket, sys, threading, time\ndef f():\n    {lines}\n",
        test="raise AssertionError(f())",
        entry_point="f",
    )
    wanted = {"seconds": 30.0, **limits}
    return run(job, Limits(**wanted), isolation or probe().isolation or Isolation.NONE)  # type: ignore[arg-type]


def answer(body: str, isolation: Isolation | None = None, **limits: float) -> str:
    result = attack(body, isolation, **limits)
    assert result.ending is Ending.FAILED, result
    return result.detail.removeprefix("AssertionError: ").partition(" in: ")[0]


def solve(program: str, test: str = "assert f(3) == 4", setup: str = "") -> Result:
    job = Job(program=program, test=test, entry_point="f", setup=setup)
    return run(job, Limits(seconds=30.0), probe().isolation or Isolation.NONE)


def sandboxed_processes() -> set[str]:
    """Ids of this machine's processes that are in another process namespace than this test."""
    own, found = os.readlink("/proc/self/ns/pid"), set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns" / "pid") != own:
                found.add(folder.name)
        except OSError:  # ended meanwhile
            continue
    return found


def descendants(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in lists for child in path.read_text().split()]
    return children + [grand for child in children for grand in descendants(child)]


def wait_for(condition, what: str, timeout_s: float = 60.0):
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, f"no {what} in time"
        time.sleep(0.01)
    return found


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
        ("def f(x):\n    while True: pass", "timeout", "no verdict within 30.0 s"),
        ("import numpy_that_is_not_here", "failed", "ModuleNotFoundError"),
        ("", "failed", "NameError"),
        ("\x00", "failed", "null bytes"),
        ("def f(x): return '\ud800'", "failed", "surrogates"),
    ],
)
def test_how_a_program_fares(program: str, ending: str, detail: str):
    quick = Limits(seconds=2.0 if ending == "timeout" else 30.0)
    job = Job(program=program, test="assert f(3) == 4", entry_point="f")
    result = run(job, quick, probe().isolation or Isolation.NONE)
    assert result.ending == ending, result
    assert detail.replace("30.0", "2.0") in result.detail
    assert bool(detail) == bool(result.detail)


def test_all_of_the_time_counts():
    start = time.monotonic()
    result = attack("time.sleep(1000)", seconds=1.5)
    assert result == Result(ending=Ending.TIMEOUT, detail="no verdict within 1.5 s")
    assert 1.5 <= time.monotonic() - start < 1.5 + sandbox._GRACE_S


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
    "close": "import os\nos.closerange(0, 64)\nimport time\ntime.sleep(1000)",
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


@pytest.mark.parametrize("isolation", [None, Isolation.NONE], ids=["best", "none"])
@pytest.mark.parametrize("program", FORGERIES.values(), ids=FORGERIES)
def test_no_verdict_is_forged(program: str, isolation: Isolation | None):
    job = Job(
        program=program,
        test="def check(candidate):\n    assert candidate(3) == 4",
        entry_point="f",
    )
    result = run(job, Limits(seconds=30.0), isolation or probe().isolation or Isolation.NONE)
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


# --- hostile programs


@pytest.mark.parametrize("isolation", [None, Isolation.NONE], ids=["best", "none"])
class TestEverywhere:
    """What holds with and without namespaces."""

    def test_fork_bombs(self, isolation: Isolation | None):
        body = "for _ in range(10): os.fork()"
        assert answer(body, isolation).startswith("PermissionError")
        body = "import subprocess\nsubprocess.Popen(['/bin/sleep', '1000'])"
        assert answer(body, isolation).startswith("PermissionError")
        body = "return ctypes.CDLL(None).syscall(57 if os.uname().machine == 'x86_64' else 435)"
        assert answer(body, isolation) == "-1"

    def test_memory(self, isolation: Isolation | None):
        for body in ("bytearray(10 << 30)", "a = []\nwhile True: a.append(bytearray(1 << 20))"):
            assert attack(body, isolation).ending is Ending.MEMORY

    def test_memory_out_of_sight_of_the_limit(self, isolation: Isolation | None):
        body = "os.memfd_create('more')"
        assert answer(body, isolation).startswith("PermissionError")
        body = "return ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600)"
        assert answer(body, isolation) == "-1"

    def test_endless_output(self, isolation: Isolation | None):
        for body in (
            "while True: print('a' * 1000)",
            "while True: os.write(2, b'a')",
            "while True: os.write(1, bytes(1 << 20))",
        ):
            result = attack(body, isolation)
            assert result == Result(ending=Ending.OUTPUT, detail="more than 256 KiB of output"), (
                result
            )

    def test_a_large_file(self, isolation: Isolation | None):
        body = "open('large', 'wb').write(bytes(17 << 20))"
        assert answer(body, isolation).startswith("OSError: [Errno 27] File too large")

    def test_the_network(self, isolation: Isolation | None):
        with socket.create_server(("127.0.0.1", 0)) as server:
            body = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
            assert answer(body, isolation).startswith("PermissionError")
        for kind in ("AF_INET6", "AF_NETLINK", "AF_PACKET"):
            body = f"socket.socket(socket.{kind}, socket.SOCK_RAW)"
            assert answer(body, isolation).startswith("PermissionError")

    def test_killing_the_parent(self, isolation: Isolation | None):
        number = 9 if isolation is None else 0  # 0 kills nobody, should the filter be broken
        for target in ("os.getppid()", "1", "0", "-1", str(os.getpid())):
            refused = answer(f"os.kill({target}, {number})", isolation)
            assert refused.startswith("PermissionError"), target
        body = f"import resource\nresource.prlimit({os.getpid()}, resource.RLIMIT_CPU, (1, 1))"
        assert answer(body, isolation).startswith("PermissionError")

    def test_stopping_itself(self, isolation: Isolation | None):
        body = "os.kill(os.getpid(), signal.SIGSTOP)"
        assert attack(body, isolation, seconds=1.5).ending is Ending.TIMEOUT

    def test_ignoring_signals(self, isolation: Isolation | None):
        body = "for n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        body += "    except (OSError, ValueError): pass\nwhile True: pass"
        assert attack(body, isolation, seconds=1.5).ending is Ending.TIMEOUT

    def test_a_crash_in_c(self, isolation: Isolation | None):
        result = attack("ctypes.string_at(0)", isolation)
        assert result.ending is Ending.FAILED and "SIGSEGV" in result.detail

    def test_the_environment(self, isolation: Isolation | None, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("WANDB_API_KEY", CANARY)
        names = answer("return sorted(os.environ)", isolation)
        assert "WANDB_API_KEY" not in names and "PATH" in names
        assert CANARY not in answer("return repr(os.environ) + repr(sys.argv)", isolation)

    def test_raising_limits_and_privileges(self, isolation: Isolation | None):
        body = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))"
        if isolation is None or os.getuid() != 0:
            assert "not allowed to raise maximum limit" in answer(body, isolation)
        libc = "c = ctypes.CDLL(None, use_errno=True)\n"
        assert answer(libc + "return c.unshare(0x10000000)", isolation) == "-1"
        assert answer(libc + "return c.mount(b'/', b'/tmp', None, 4096, None)", isolation) == "-1"
        assert answer(libc + "return c.ptrace(16, os.getppid(), 0, 0)", isolation) == "-1"
        assert answer(libc + "return c.prctl(39, 0, 0, 0, 0)", isolation) == "1"  # no_new_privs


def test_without_isolation_nothing_stays_on_disk():
    folder = answer("open('mine', 'w').close()\nreturn os.getcwd()", Isolation.NONE)
    assert folder.startswith("/") and not Path(folder).exists()


@needs_isolation
class TestIsolated:
    """What takes namespaces."""

    def test_other_processes_are_out_of_sight(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("WANDB_API_KEY", CANARY)
        for place in (f"/proc/{os.getpid()}/environ", "/proc/1/environ", "/proc/self/status"):
            assert answer(f"open({place!r})").startswith("FileNotFoundError")
        assert int(answer("return os.getpid()")) < 10

    def test_the_file_system(self, tmp_path: Path):
        secret = tmp_path / "secret"
        secret.write_text(CANARY)
        secret.chmod(0o644)
        for place in (secret, "/etc/passwd", "/etc/shadow", sandbox.__file__, "/dev/shm", "/sys"):
            assert answer(f"os.stat({str(place)!r})").startswith("FileNotFoundError")
        for place in ("/mine", "/usr/mine", "/bin/mine", "/dev/mine", f"{sys.base_prefix}/mine"):
            refused = answer(f"open({place!r}, 'w')")
            assert refused.startswith(("OSError: [Errno 30]", "PermissionError")), refused
        assert answer("open('/tmp/mine', 'w').write('a')\nreturn os.listdir('/tmp')") == "['mine']"
        assert answer("return os.listdir('/tmp')") == "[]"  # nothing is left for the next one

    def test_a_full_disk(self):
        body = "for n in range(100): open(f'{n}', 'wb').write(bytes(15 << 20))"
        assert answer(body, memory_mb=512).startswith("OSError: [Errno 28] No space left")

    def test_threads(self):
        body = "for n in range(100): threading.Thread(target=time.sleep, args=(1000,)).start()"
        assert "can't start new thread" in answer(body)

    def test_identity(self):
        assert answer("return {*os.getresuid(), *os.getresgid()}") == "{65534}"
        body = """
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capget(header, data) == 0
return sum(data)
"""
        assert answer(body) == "0"  # no capability

    def test_namespaces_of_its_own(self):
        """Seen from outside, while it runs."""
        program = "import json, os, sys\nfrom tests.scoring.test_sandbox import attack\n"
        program += "attack('time.sleep(1000)', seconds=60.0)"
        with started(program) as parent:
            inner = wait_for(lambda: innermost(parent.pid), "program")
            kinds = ("user", "pid", "mnt", "net", "ipc", "uts")
            shared = [k for k in kinds if namespace(inner, k) == namespace(os.getpid(), k)]
            assert shared == []

    def test_it_ends_with_who_asked_for_it(self):
        program = "from tests.scoring.test_sandbox import attack\n"
        program += "attack('time.sleep(1000)', seconds=600.0)"
        before = sandboxed_processes()
        with started(program) as parent:
            inner = wait_for(lambda: innermost(parent.pid), "program")
            pidfd = os.pidfd_open(inner)
            parent.send_signal(signal.SIGKILL)
            parent.wait()
        assert select.select([pidfd], [], [], 60.0)[0]
        os.close(pidfd)
        wait_for(lambda: not sandboxed_processes() - before, "end of the sandbox")

    def test_nothing_survives(self, without_the_filter: None):
        """Without the filter that forbids processes: the process namespace alone must do."""
        before = sandboxed_processes()
        program = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            try:
                os.fork()
            except OSError:
                time.sleep(0.01)
time.sleep(1000)
"""
        job = Job(program=program, test="f()", entry_point="f")
        result = run(job, Limits(seconds=3.0), probe().isolation or Isolation.NONE)
        assert result.ending is Ending.TIMEOUT
        assert sandboxed_processes() <= before

    def test_the_number_of_processes_is_limited(self, without_the_filter: None):
        """Again without the filter, as whoever finds a way around it."""
        body = "n = 0\nwhile True:\n    n += 1\n    try:\n        pid = os.fork()\n"
        body += "    except OSError as e:\n        return n\n    if pid == 0: time.sleep(1000)"
        if os.getuid() == 0 and probe().isolation is Isolation.BUBBLEWRAP:
            pytest.skip("root's processes are not counted")
        assert int(answer(body)) <= 16


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def innermost(pid: int) -> int | None:
    """The program's process, under the asker, the monitor and the tests' process."""
    found = descendants(pid)
    programs = [p for p in found if b"\0program\0" in Path(f"/proc/{p}/cmdline").read_bytes()]
    return programs[-1] if programs else None


def started(program: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment)


@pytest.fixture
def without_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's process leaves out its filter of system calls."""
    source = sandbox._inside()
    unfiltered = source.replace("        _filter_calls()\n", "        pass\n")
    assert unfiltered != source
    monkeypatch.setattr(sandbox, "_inside", lambda: unfiltered)


# --- what a machine offers


def test_bubblewrap_runs_programs_too():
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    assert run(sandbox._PROBE, Limits(seconds=30.0), Isolation.BUBBLEWRAP).ending is Ending.PASSED


def test_a_missing_bubblewrap_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError, match="bwrap is not installed"):
        run(sandbox._PROBE, Limits(), Isolation.BUBBLEWRAP)


def test_without_isolation_the_probe_says_so():
    """The program that looks around finds what a bare process sees."""
    result = run(sandbox._PROBE, Limits(seconds=30.0), Isolation.NONE)
    assert result.ending is Ending.FAILED and "'first processes': False" in result.detail
