"""The verifier of programs: what it takes for the program, what it accepts, when it refuses."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from textwrap import indent

import pytest

from rlstep.cli import load_recipe
from rlstep.config import ScorerConfig
from rlstep.plugins import check_failed_scores, failed_scores
from rlstep.running.run import prepare
from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.scoring.programs import code_tests
from rlstep.scoring.programs.code_tests import CodeTests, Tests, assemble, extract
from rlstep.scoring.programs.sandbox import (
    Ending,
    Isolation,
    Probe,
    SandboxError,
    SandboxUnavailable,
    probe,
)
from rlstep.testing.small import small_config
from rlstep.types import Failure, OutcomeScore, Verdict
from tests.builders import make_group, make_rollout

HUMANEVAL = Path(__file__).parents[4] / "shared" / "data" / "humaneval" / "HumanEval.jsonl.gz"

needs_isolation = pytest.mark.skipif(
    probe().isolation is None, reason=f"no isolation on this machine: {probe()}"
)

SETUP = 'import math\n\ndef half(x: float) -> int:\n    """Half of it, rounded down."""\n'
ADD = Tests(test="def check(f):\n    assert f(5) == 2", entry_point="half", setup=SETUP)
WHOLE = "def half(x):\n    return math.floor(x / 2)\n"
BODY = "    return math.floor(x / 2)\n"
VERIFIER = CodeTests(seconds=300.0)


# --- what is taken for the program


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (BODY, BODY),
        (f"```python\n{WHOLE}```", WHOLE),
        (f"Thus:\n```python\n{WHOLE}```\nDone.", WHOLE),
        (f"  ```py\n{WHOLE}  ```", WHOLE),
        (f"1. Thus:\n\n   ```py\n{indent(WHOLE, '   ')}\n   ```", f"{WHOLE}\n"),
        (f"    ```py\n{BODY}    ```", BODY),  # the indentation is the setup's
        (f"```\n{WHOLE}```\n", WHOLE),
        (f"```python\n{WHOLE}", WHOLE),  # cut off
        (f"```python\nold = 1\n```\nbetter:\n```python\n{WHOLE}```", WHOLE),
        (f"```python\n{WHOLE}```\nuse:\n```python\nprint(half(3))\n```", WHOLE),
        (f"```python\nx = 1\n```\n```python\n{BODY}```", BODY),
        (f"```python\n{WHOLE}```\n```bash\necho done\n```", WHOLE),
        (f"{BODY}```\nThat is all.", BODY),  # the prompt opened the block
        (f"{BODY}```\nOr:\n```python\n{WHOLE}```", WHOLE),
        ("", ""),
        ("```python\n```", ""),
    ],
)
def test_the_program_in_a_completion(text: str, code: str):
    assert extract(text, "half") == code


def test_a_whole_program_follows_the_setup_and_a_body_continues_it():
    assert assemble(WHOLE, ADD) == f"{SETUP}\n\n{WHOLE}\n"
    assert assemble(BODY, ADD) == f"{SETUP}{BODY.rstrip()}\n\n"
    assert assemble("half = abs", ADD).endswith("\n\nhalf = abs\n")


def test_a_program_imports_the_future_before_all_else():
    future = "from __future__ import annotations"
    whole = f"# mine\n{future}\nfrom __future__ import (\n    division,\n)\n"
    whole += f"from __future__ import generators, \\\n    with_statement\n{WHOLE}"
    assembled = assemble(whole, replace(ADD, setup=f'"""Halves."""\n{future}\n{SETUP}'))
    assert assembled.startswith(f"{future}\n{future}\nfrom __future__ import (\n    division,\n)\n")
    assert assembled.count("__future__") == 4
    assert assembled.endswith(f"# mine\n{WHOLE}\n")
    compile(assembled, "program.py", "exec")


@pytest.mark.parametrize("rest", ["\nprint(half(3))", "\nHere is why", "def other():\n    pass"])
def test_a_body_ends_where_the_indentation_does(rest: str):
    body = "    y = (x\n)\n# a comment\n\n    return y // 2\n"
    assert assemble(body + rest, ADD).startswith(SETUP + body)
    assert rest.strip() not in assemble(body + rest, ADD)


# --- verdicts


@needs_isolation
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (f"```python\n{WHOLE}```", Verdict.CORRECT),
        (BODY, Verdict.CORRECT),
        (BODY + "\nprint(half(3))\nHere is why.", Verdict.CORRECT),
        (WHOLE.replace("floor", "ceil"), Verdict.WRONG),
        (f"```python\nfrom __future__ import annotations\n{WHOLE}```", Verdict.CORRECT),
        # An annotation is looked up in plain Python, whatever the sandbox's own code imports.
        (WHOLE + "\ndef more(x: Missing): ...\n", Verdict.WRONG),
        (
            f"from __future__ import annotations\n{WHOLE}\ndef more(x: Missing): ...\n",
            Verdict.CORRECT,
        ),
        ("    import sys; sys.exit(0)", Verdict.WRONG),
        ("    pass", Verdict.WRONG),
        ("I do not know.", Verdict.WRONG),
        ("```python\n```", Verdict.UNPARSABLE),
        (" \n", Verdict.UNPARSABLE),
    ],
)
def test_verdicts(text: str, verdict: Verdict):
    score = VERIFIER.verify(text, ADD.answer())
    assert (score.verdict, score.value) == (verdict, float(verdict is Verdict.CORRECT))
    assert score.extracted == (extract(text, "half") if extract(text, "half").strip() else "")


@needs_isolation
def test_a_judgement_says_why():
    result = VERIFIER.judge("    return 1 / 0", ADD)
    assert result.ending is Ending.FAILED and result.detail.startswith("ZeroDivisionError")
    endless = CodeTests(seconds=1.0).judge("    import time; time.sleep(60)", ADD)
    assert endless.ending is Ending.TIMEOUT


@pytest.mark.parametrize("answer", ["", "5", "{}", '{"test": "a", "entry_point": "b", "c": 1}'])
def test_a_reference_that_is_no_test(answer: str):
    with pytest.raises(ValueError, match="the reference answer is no JSON of test, entry_point"):
        VERIFIER.verify(BODY, answer)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test": " ", "entry_point": "f"}, "test is ' '"),
        ({"test": "a", "entry_point": "f()"}, r"entry_point is 'f\(\)'; it must be a Python name"),
        ({"test": "a", "entry_point": "f", "setup": None}, "setup is None"),
    ],
)
def test_tests_that_are_none(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Tests(**fields)


def test_a_reference_is_read_as_it_was_written():
    assert Tests.read(ADD.answer()) == ADD


# --- in the pool


@needs_isolation
async def test_in_the_pool_a_bad_program_is_wrong_and_a_bad_reference_a_failure():
    broken = Tests(test="def check(f): pass", entry_point="half", setup=SETUP)
    items = [
        (BODY, ADD.answer()),
        ("    import time; time.sleep(60)", ADD.answer()),
        ("    import os; os.kill(os.getppid(), 0)", ADD.answer()),
        (BODY, broken.answer()),
        (BODY, ADD.answer()),
    ]
    verifier = CodeTests(seconds=8.0)
    with VerifierPool(verifier, workers=1, deadline_s=300.0) as pool:
        outcomes = await pool.verify(items)
    values = [o.value if isinstance(o, OutcomeScore) else o.reason for o in outcomes]
    assert values == [1.0, 0.0, 0.0, "crashed", 1.0]
    assert (
        isinstance(outcomes[3], Failure) and "SandboxError: the tests never" in outcomes[3].detail
    )


YOUNG = [
    *("", " ", "\n", "I am not sure.", "half", "def", "def half(x):", "    return", "```"),
    "```python",
    "    return x / 2",
    "    return 'half'",
    "    pass",
    "    return half(x)",
    "    raise NotImplementedError",
    "    return y",
    "    return x +",
    "\treturn x\n    return x",
    "def other(x):\n    return x",
    "half = None",
    "import nothing_of_this_name\n\ndef half(x):\n    return 2",
    "def half():\n    return 2",
    "class half:\n    pass",
    "def half(x):\n    return x // 0",
    "def half(x):\n    assert x > 9",
    "def half(x):\n    return input()",
    "def half(x):\n    exit()",
    "```java\nint half(int x) { return x; }\n```",
    "def half(x):\n    x = ",
    "def half(x):\n    return [x] [2",
    "\N{EM DASH} \N{GREEK SMALL LETTER ALPHA} half",
    "0" * 500,
]
"""What a policy writes that has not learnt to program."""


@needs_isolation
async def test_a_young_policys_programs_are_scores_of_0_and_no_failures():
    """The recipe's own verifier, in the pool: `max_failed_scores` is about what was not scored."""
    recipe = load_recipe(str(Path(__file__).parents[3] / "recipes" / "code_grpo.py"))
    assert isinstance(recipe.verifier, CodeTests) and recipe.max_failed_scores == 0.5
    answer = ADD.answer()
    with VerifierPool(replace(recipe.verifier, seconds=300.0), workers=2, deadline_s=400.0) as pool:
        scores = await pool.verify([(text, answer) for text in YOUNG])
    rollouts = [make_rollout(f"r{i}", [[1]]).with_scores(outcome=s) for i, s in enumerate(scores)]
    failed = failed_scores([make_group(*rollouts)])
    assert not failed, [str(each) for each in failed]
    assert [s.value for s in scores if isinstance(s, OutcomeScore)] == [0.0] * len(YOUNG)
    check_failed_scores([make_group(*rollouts)], recipe.max_failed_scores)


def test_a_pool_that_kills_before_the_sandbox_does_is_refused():
    with pytest.raises(RuntimeError, match=r"deadline_s .* is 5.0; the smallest valid value is 10"):
        VerifierPool(CodeTests(seconds=8.0), workers=1, deadline_s=5.0)


def test_more_memory_than_the_worker_has_is_refused():
    with pytest.raises(RuntimeError, match="memory_mb is 4096; the largest valid value is 1024"):
        VerifierPool(CodeTests(memory_mb=4096), workers=1, memory_mb=1024)


# --- refusal


@pytest.fixture
def nothing_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {Isolation.NAMESPACES: "unshare: Operation not permitted"}
    monkeypatch.setattr(code_tests, "probe", lambda: Probe(isolation=None, refused=refused))


def test_without_isolation_nothing_runs(nothing_offered: None):
    message = "offers no isolation .namespaces: unshare: Operation not permitted.; allow user"
    with pytest.raises(SandboxUnavailable, match=message):
        CodeTests().check(60.0)
    with pytest.raises(SandboxUnavailable, match=message):
        CodeTests().verify(BODY, ADD.answer())


def test_unless_it_is_insisted_on(nothing_offered: None, caplog: pytest.LogCaptureFixture):
    verifier = CodeTests(seconds=300.0, unsandboxed=True)
    verifier.check(400.0)
    assert "programs run without isolation" in caplog.text
    assert verifier.verify(BODY, ADD.answer()).value == 1.0
    assert verifier.verify("    pass", ADD.answer()).value == 0.0


def test_a_run_is_refused_before_anything_starts(nothing_offered: None, tmp_path: Path):
    runs = tmp_path / "runs"
    config = small_config(
        verifier=CodeTests(), scorer=ScorerConfig(deadline_s=60.0), run_dir=str(runs)
    )
    with pytest.raises(SandboxUnavailable, match="this machine offers no isolation"):
        prepare(config)
    assert not runs.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds": 0.0}, "code_tests.seconds is 0.0; the smallest valid value is 0.1"),
        ({"memory_mb": 1}, "code_tests.memory_mb is 1; the smallest valid value is 64"),
        ({"url": "example.org"}, "code_tests.url is 'example.org'; it begins with http"),
        ({"url": "http://me:secret@example.org"}, "code_tests.url holds a password"),
    ],
)
def test_refused_fields(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        CodeTests(**fields)


# --- HumanEval


def human_eval() -> list[dict]:
    if not HUMANEVAL.exists():
        pytest.skip(f"{HUMANEVAL} is absent")
    with gzip.open(HUMANEVAL, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


async def judged(rows: list[dict]) -> list[str]:
    """Ids of the problems whose solution does not pass, or whose empty body does not fail."""
    items = []
    for row in rows:
        tests = Tests(test=row["test"], entry_point=row["entry_point"], setup=row["prompt"])
        whole = f"Sure!\n```python\n{row['prompt']}{row['canonical_solution']}```"
        texts = (row["canonical_solution"], whole, "    pass\n")
        items += [(text, tests.answer()) for text in texts]
    with VerifierPool(CodeTests(seconds=600.0), workers=2, deadline_s=900.0) as pool:
        outcomes = await pool.verify(items)
    values = [o.value if isinstance(o, OutcomeScore) else o for o in outcomes]
    ids = [row["task_id"] for row in rows for _ in range(3)]
    wanted = [1.0, 1.0, 0.0] * len(rows)
    return [i for i, v, w in zip(ids, values, wanted, strict=True) if v != w]


@needs_isolation
async def test_some_of_humaneval():
    # two, and one of those whose tests call functions of the prompt
    rows = [human_eval()[i] for i in (0, 32, 120)]
    assert await judged(rows) == []


@needs_isolation
@pytest.mark.slow
async def test_all_of_humaneval():
    rows = human_eval()
    assert len(rows) == 164
    assert await judged(rows) == []


@needs_isolation
def test_a_broken_reference_is_an_error_of_nobodys_program():
    with pytest.raises(SandboxError, match="the tests are broken"):
        VERIFIER.judge(BODY, Tests(test="def check(", entry_point="half", setup=SETUP))
