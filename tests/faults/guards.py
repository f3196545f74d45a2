"""Whether anything would notice: every guard is taken out of a copy of the project, and the row of
faults that it is there for must break, or the test that is named.

    python -m tests.faults.guards [--only PART_OF_A_NAME]

A copy that hangs has broken, too: a row is given 150 s, a test ten minutes. Ends with 1
where a guard is missed by nobody.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORM = "F1 to F4, F13, F15, F26"


@dataclass(frozen=True)
class Guard:
    what: str
    file: str
    """Below rlstep/."""
    text: str
    """Stands there once."""
    without: str
    row: str = STORM
    test: str = ""
    """A file of tests that finds it, where no row does."""


GROUP = "actors/generator/generator_group.py"
REPLICAS = "actors/generator/replicas.py"
EPOCHS = "actors/generator/epochs.py"
SYNC = "actors/weight_sync.py"
GUARDS = [
    Guard(
        "answers of a sync are held until it is verified",
        GROUP,
        "                await epoch.verified.wait()\n",
        "",
        row="F13, F16",
    ),
    Guard(
        "a death is acted on once",
        GROUP,
        "            if self.epochs[epoch.replica] is not epoch:\n                return",
        "            if False:\n                return",
    ),
    Guard(
        "what was lost is asked again",
        GROUP,
        "            while pending:\n                epoch = await self._admitted",
        "            if pending:\n                epoch = await self._admitted",
        row="F2",
    ),
    Guard(
        "who is given up is not heard",
        GROUP,
        "            if over.done():",
        "            if False:",
    ),
    Guard(
        "requests wait until a successor is synced",
        GROUP,
        "            if epoch.serves:\n",
        "            if True:\n",
        test="tests/actors/generator/test_epochs.py",
    ),
    Guard(
        "a recreated replica gets the weights of now",
        GROUP,
        "            await self.on_recreated()\n",
        "",
        row="F2",
    ),
    Guard(
        "a sync that failed in its middle costs every engine",
        SYNC,
        "                await generators.replace_all()\n",
        "                pass\n",
        row="F3",
    ),
    Guard(
        "what lived through a sync that was not verified is asked again",
        SYNC,
        "            self._generators.renew()\n            raise",
        "            raise",
        row="F2, F13",
    ),
    Guard(
        "what a lost learner's weights have written is asked again",
        SYNC,
        "                self._generators.renew()\n            self._learner",
        "                pass\n            self._learner",
        test="tests/actors/generator/test_epochs.py",
    ),
    Guard(
        "logprobs are compared after every sync",
        SYNC,
        "            if not error <= allowed:",
        "            if False:",
        row="F13, F16",
    ),
    Guard(
        "engines are paused before weights come",
        SYNC,
        "        await self._generators.pause()\n",
        "",
    ),
    Guard(
        "the learner joins whoever is there now",
        SYNC,
        "        if self._joined != self._generators.epochs:",
        "        if not self._joined:",
        row="F2",
    ),
    Guard(
        "an engine that gets nothing done is given up",
        "rollouts/progress.py",
        '            raise TimeoutError(f"no sign of life within {deadline_s:.0f} s")',
        "            return 0.0",
        row="F4",
    ),
    Guard(
        "one that crawls is waited for",
        "rollouts/progress.py",
        "            if idle >= limit_s:",
        "            if True:",
        row="F4",
    ),
    Guard(
        "nothing is trained on that is older than the lag",
        "running/loop.py",
        "    fresh = tuple(r for r in group.rollouts if r.oldest_version >= oldest)",
        "    fresh = tuple(group.rollouts)",
        test="tests/running/test_loop.py",
    ),
    Guard(
        "a checkpoint holds what is collected ahead",
        "running/backlog.py",
        "        if not self.admitted or (lag == 0 and self.done >= self.former_frontier):",
        "        if True:",
        row="F6, F11, F20",
    ),
    Guard(
        "a checkpoint's files are what its manifest says",
        "running/checkpoint.py",
        "                verify(path)\n            except",
        "                pass\n            except",
        row="F8",
    ),
    Guard(
        "a start that was killed is tried once more",
        "scoring/processes/verifier_pool.py",
        "        except _Killed:\n            return self._start()",
        "        except _Killed:\n            raise",
        test="tests/scoring/processes/test_verifier_pool.py",
    ),
    Guard(
        "a rank that fails takes part in the gathers",
        "actors/weights/weight_source.py",
        "            for _ in self._under_way:\n                pass\n            raise",
        "            raise",
        test="tests/actors/weights/test_failed_sync.py::test_a_rank_that_fails_has_gathered_every_weight_once",
    ),
    Guard(
        "a ruined policy is no generator's fault",
        SYNC,
        "        if not all(np.isfinite(row[1:]).all() for row in rows):",
        "        if False:",
        test="tests/actors/weights/test_parity.py",
    ),
]


def found(guard: Guard, copy: Path) -> bool:
    """Whether something breaks without it."""
    file = copy / "rlstep" / guard.file
    whole = file.read_text()
    if whole.count(guard.text) != 1:
        raise SystemExit(f"{guard.what}: {guard.file} does not have its text once")
    file.write_text(whole.replace(guard.text, guard.without))
    command = ["-m", "tests.faults.nemesis", "--rows", guard.row, "--scale", "0.3"]
    if guard.test:
        command = [
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow",
            guard.test,
        ]
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            check=False,
            timeout=600 if guard.test else 150,
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        file.write_text(whole)
    return done.returncode != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="guards whose text has this")
    given = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made)
        skip = shutil.ignore_patterns("__pycache__")
        for folder in ("rlstep", "tests", "recipes"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", copy)
        for guard in GUARDS:
            if given.only in guard.what:
                noticed = found(guard, copy)
                missed += not noticed
                by = guard.test or guard.row
                print(f"{'found' if noticed else 'MISSED':8} {guard.what:56} {by}", flush=True)
    print(f"{missed} of {len(GUARDS)} guards are missed by nobody")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
