"""A whole run on episodes of the real package's server (verifiers 0.4.0), as in
tests/rollouts/test_verifiers_real.py, and its traces as that package reads them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.real_package import python_with, started
from tests.run import run_kit
from tests.run.run_kit import ROOT, records

pytestmark = pytest.mark.slow

READ = """
import json, sys
from pathlib import Path
from verifiers.v1 import Trace, WireTaskData
from verifiers.v1.utils.trace_store import read_episodes

for episode in read_episodes(Path(sys.argv[1]), Trace[WireTaskData]):
    [trace] = episode.traces
    [branch] = trace.branches
    print(json.dumps({
        "id": trace.id, "reward": trace.reward, "token_ids": branch.token_ids,
        "mask": branch.sampled_mask, "logprobs": branch.logprobs, "advantages": branch.advantages,
    }))
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    return python_with("verifiers==0.4.0", "RLSTEP_VERIFIERS_PYTHON", tmp_path / "verifiers")


@pytest.fixture
def policy(tmp_path: Path) -> str:
    """The guesser, whose turns end with their line for a chat template too."""
    folder = tmp_path / "policy"
    shutil.copytree(ROOT / "recipes" / "policies" / "guess_number", folder)
    change(folder / "tokenizer_config.json", eos_token="\n", chat_template=TEMPLATE)
    # The server's renderer tries the template on words, which are not of this alphabet.
    words = json.loads((folder / "tokenizer.json").read_text())["model"]
    change(folder / "tokenizer.json", model=words | {"unk_token": "<pad>"})
    return str(folder)


TEMPLATE = "{% for message in messages %}{{ message.content }}{{ '\\n' }}{% endfor %}"


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_whole_run_and_its_traces(
    python: str, policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = ROOT / "tests" / "verifiers_recipe.py"
    with started(python, str(ROOT / "tests" / "rollouts" / "verifiers_server.py")) as (_, address):
        monkeypatch.setenv("VERIFIERS_SERVER", address)
        monkeypatch.setenv("SERVED_POLICY", policy)
        with run_kit.started(policy, tmp_path, "--name", "run", recipe=recipe) as process:
            run_kit.finish(process)
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    # A turn that is no number is the environment's error, and its game a failure.
    assert summary["complete"] and summary["updates"] > 0 and summary["failures"] < 20
    assert summary["max_parity_error"] < 1e-4
    assert 0.3 < summary["eval_accuracy_start"] < 0.9  # of 41 games; 61 % where we play them
    told = [row for row in records(run, "rollouts.jsonl") if row["iteration"] == 1]
    read = [python, "-c", READ, str(run / "traces" / "000001")]
    done = subprocess.run(read, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    traces = [json.loads(line) for line in done.stdout.splitlines()]
    made = [row["rollout_id"] for row in told if "rollout_id" in row]
    assert sorted(trace["id"] for trace in traces) == sorted(made)
    check_credit(traces)


def check_credit(traces: list[dict[str, Any]]) -> None:
    """Leave-one-out of games that are won or not: one number for every sampled token of a game."""
    credit = []
    for trace in traces:
        mine, other = ([i for i, m in enumerate(trace["mask"]) if m is s] for s in (True, False))
        assert all(trace["logprobs"][i] < 0.0 for i in mine)
        if (advantages := trace["advantages"]) is None:  # all games of its prompt ended alike
            continue
        assert all(advantages[i] == 0.0 for i in other)
        [one] = {advantages[i] for i in mine}
        assert (one > 0.0) is (trace["reward"] == 1.0)
        credit.append(one)
    assert credit and abs(sum(credit)) < 1e-3 * len(credit)  # of each prompt they sum to 0
