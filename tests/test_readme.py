"""What the README shows works as shown."""

from __future__ import annotations

import importlib
import json
import re
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlstep.cli import _COMMANDS, _RUNS, load_recipe
from rlstep.commands.runs import VERBS
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from rlstep.tensors.batching import collate, count
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_completion, fake_context
from rlstep.testing.small import small_config
from rlstep.types import (
    Action,
    Failure,
    History,
    Observation,
    OutcomeScore,
    Pair,
    PairSamples,
    Prompt,
    Rollout,
    Step,
    Verdict,
)
from tests.builders import make_prompt, make_rollout, make_sequence
from tests.scoring.processes.patient_pool import PatientPool

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def written(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file of a block of code in the README, where it can be imported."""
    block = rf"```python\n(# recipes/{name}\.py\n.*?)```"
    [code] = re.findall(block, README, re.DOTALL)
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return str(folder / f"{name}.py")


def rollout_of(text: str, prompt: Prompt) -> Rollout:
    completion = fake_completion(text)
    steps = (Step(start=0, end=len(completion.token_ids)),)
    return replace(make_rollout("r", [], prompt=prompt), completion=completion, steps=steps)


def test_every_verb_stands_in_the_table_of_commands() -> None:
    table = README.partition("## Commands")[2].partition("\n## ")[0]
    assert set(re.findall(r"`rlstep ([\w-]+)", table)) == {*_COMMANDS, *_RUNS}
    assert all(f"`rlstep runs {verb}" in table for verb in VERBS)


def test_every_block_of_code_is_run() -> None:
    assert re.findall(r"```python\n# recipes/(\w+)\.py", README) == [
        *("mine", "rewards", "hook", "tries")
    ]
    assert README.count("```python") == 4


async def test_an_environment_in_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    file = written("tries", tmp_path, monkeypatch)
    config = load_recipe(file)
    assert config.rollouts.conversing is not None
    pool = EnvironmentPool(config.rollouts.conversing.environment, deadline_s=300.0)
    prompt = replace(make_prompt(), answer="12")
    wrong, right = Action(text="2+3=5\n#5", token_ids=()), Action(text="#12", token_ids=())
    try:
        told = [
            await pool.observe(History(episode_id="e", prompt=prompt, seed=0, actions=actions))
            for actions in ((wrong,), (wrong, right))
        ]
    finally:
        await pool.close()
    assert told == [
        Observation(text="-", reward=-0.25),
        Observation(text="-", reward=1.0, done=True, success=True),
    ]


@pytest.fixture
def rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of README's rewards."""
    written("rewards", tmp_path, monkeypatch)
    return importlib.import_module("rewards")


async def test_a_reward_of_the_text_the_answer_and_the_row(rewards: Any) -> None:
    rows = [{"unit": "cm"}, {"unit": "m", "level": 3}, {}]
    prompts = [replace(make_prompt(), answer="4", meta=row) for row in rows]
    texts = ["2+2\n# 4 cm", "2+2\n# 4 cm", "# 4 cm"]
    verifier = rewards.WithUnit()
    with PatientPool(verifier, workers=1) as pool:
        found = await pool.verify(
            [verifier.item(rollout_of(t, p)) for t, p in zip(texts, prompts, strict=True)]
        )
    assert [o.value for o in found if isinstance(o, OutcomeScore)] == [1.0, 0.0]
    assert isinstance(found[2], Failure) and found[2].reason == "crashed"
    assert found[2].detail.startswith("KeyError: 'unit' (") and "rewards.py" in found[2].detail


async def test_a_reward_with_state(rewards: Any, tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    with pytest.raises(ValueError, match=r"in_vocabulary\.file is '.*', and there is no such file"):
        rewards.InVocabulary(file=str(file)).check(5.0)
    file.write_text("one two")
    verifier = rewards.InVocabulary(file=str(file))
    with PatientPool(verifier, workers=1) as pool:
        file.unlink()  # read when the process started, and never again
        found = await pool.verify(
            [
                ("two one two", "", {"finish_reason": "stop"}),
                ("two one two", "", {"finish_reason": "length"}),
                ("two three", "", {"finish_reason": "stop"}),
            ]
        )
    assert [(o.value, o.extracted) for o in found if isinstance(o, OutcomeScore)] == [
        (1.0, ""),
        (0.0, ""),
        (0.0, "three"),
    ]


async def test_a_reward_of_a_whole_batch(rewards: Any) -> None:
    def of(prompt_id: str, extracted: str) -> Rollout:
        score = OutcomeScore(value=1.0, verdict=Verdict.CORRECT, extracted=extracted)
        return make_rollout("r", [[1]], prompt=make_prompt(prompt_id)).with_scores(outcome=score)

    rollouts = [of("p", "1"), of("p", "1"), of("p", "2"), of("q", "1")]
    failed = rollouts[0].with_scores(outcome=Failure(reason="timeout"))
    context = fake_context(FakeGenerator(lambda *_: ""), FakeScorer())
    found = await rewards.Rare().label([*rollouts, failed], context)
    assert [r.whole_score("rare") for r in found] == [0.5, 0.5, 1.0, 1.0, None]
    assert found[-1].scores["rare"] == Failure(reason="no_verdict")


def test_a_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, float]] = []

    class Heard(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if len(told) != 2 else 500)
            self.end_headers()

    written("hook", tmp_path, monkeypatch)
    directory = RunDirectory.create(tmp_path, "demo")
    with HTTPServer(("127.0.0.1", 0), Heard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hook = importlib.import_module("hook").Hook(url=f"http://127.0.0.1:{server.server_port}")
        config = small_config(sinks=(Files(), hook))
        with Reporter(directory, config, iterations=3, sinks=config.sinks) as reporter:
            for iteration in (1, 2, 3):
                reporter.iteration({"iteration": iteration, "train/loss": 0.5})
                reporter.iteration({"iteration": iteration, "eval/accuracy": iteration / 4})
        server.shutdown()
    assert [record["eval/accuracy"] for record in told] == [0.25, 0.5, 0.75]
    assert [row.get("sinks/failed") for row in directory.metrics] == [None] * 4 + [1, None]
    summary = json.loads(directory.summary.read_text())
    assert (summary["failed"], summary["sinks_failed"]) == (False, {"Hook": 1})


async def test_the_example_of_a_task_a_reward_and_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "recipes"), *sys.path])
    config = load_recipe(written("mine", tmp_path, monkeypatch))

    prompts = config.task.load(arithmetic_tokenizer(), config.max_prompt_tokens)
    assert len(prompts.train) == 80 and prompts.evaluation[0].answer == "4"

    with PatientPool(config.verifier, workers=1) as pool:  # in a process of its own
        verdicts = await pool.verify([("2*2=4\n#4", "4"), ("2*2=4\n#5", "4"), ("\n\n\n#4", "4")])
    assert [v.verdict for v in verdicts if isinstance(v, OutcomeScore)] == [
        Verdict.CORRECT,
        Verdict.WRONG,
        Verdict.WRONG,
    ]

    sequences = (make_sequence("a", [1, 1]), make_sequence("b", [1, 1]))
    pair = Pair(
        chosen=0,
        rejected=1,
        shared_prefix=1,
        chosen_score=1.0,
        rejected_score=0.0,
        provenance="test",
    )
    samples = PairSamples(sequences=sequences, pairs=(pair,), groups=1)
    zeros = [np.zeros(3, np.float32)] * 2
    batch = collate(samples, zeros, zeros)
    # beta 0.1; the chosen side 2 nats up, the rejected 3 down: hinge 1 - 0.1 (2 - -3) = 0.5
    predictions = torch.tensor([[0.0, 1.0, 1.0], [0.0, -1.0, -2.0]])
    assert config.loss(predictions, batch, count(samples)).loss.item() == pytest.approx(0.5)


def test_every_path_in_the_readme_exists() -> None:
    mentioned = set(re.findall(r"(?:rlstep|recipes|tests|cluster)/[\w./]+", README))
    missing = {path for path in mentioned if not (ROOT / path.rstrip("./")).exists()}
    names = ("mine", "rewards", "hook", "tries", "x")
    assert missing <= {f"recipes/{name}.py" for name in names}


def test_no_figure_is_left_to_fill_in() -> None:
    assert "@@" not in README


def test_the_map_shows_every_room_and_nothing_else() -> None:
    [drawn] = re.findall(r"```\nrlstep/\n.*?```", README, re.DOTALL)
    shown, path = set(), [""] * 4
    for line in drawn.splitlines()[1:-1]:
        indent, name = re.findall(r"^( *)(\S+)", line)[0]
        if len(indent) > 4:
            continue  # the line before goes on
        depth = len(indent) // 2
        path[depth:] = [name]
        shown.add("".join(path[: depth + 1]))
    tracked = {path.relative_to(ROOT) for path in (ROOT / "rlstep").rglob("*.py")}
    loose = {str(path) for path in tracked if len(path.parts) == 2} - {"rlstep/__init__.py"}
    rooms = {f"{path.parent}/" for path in tracked}
    there = loose | rooms | {"recipes/", "recipes/studies/", "recipes/policies/"}
    assert shown == there | {"tests/", "cluster/"}
