"""What docs/ says is so: links, code, commands, metrics and messages."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rlstep.cli import load_recipe, look, read_recipe, run_recipe
from rlstep.running import resuming
from rlstep.testing.small import small_prompt
from rlstep.types import Action
from tests.actors.families import FAMILIES
from tests.reporting.recorded import record_run

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {page.name: page.read_text() for page in (*PAGES, ROOT / "README.md")}
SOURCE = "\n".join(path.read_text() for path in (ROOT / "rlstep").rglob("*.py"))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXTS[name]):
        assert (folder / link).exists(), link


def test_every_page_is_named_in_the_readme() -> None:
    assert [p.name for p in PAGES if f"docs/{p.name}" not in TEXTS["README.md"]] == []


def recipes() -> list[tuple[str, str]]:
    code = [(name, block) for name, text in TEXTS.items() for block in blocks(text, "python")]
    return [(name, block) for name, block in code if "def config()" in block]


@pytest.mark.parametrize(("name", "code"), recipes())
def test_recipes_are_configurations(
    name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"{Path(name).stem}_example.py"
    file.write_text(code)
    monkeypatch.setattr(sys, "path", [str(ROOT / "recipes"), *sys.path])
    assert read_recipe(str(file)).name


def test_the_tool_of_the_page_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = blocks(TEXTS["tools.md"], "python")
    (tmp_path / "my_tool_example.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(ROOT / "recipes"), *sys.path])
    conversing = load_recipe(str(tmp_path / "my_tool_example.py")).rollouts.conversing
    assert conversing is not None
    conversing.environment.check(5.0)
    for letter, answer in (("r", "3"), ("rr", "error: letter must be one letter")):
        arguments = f'{{"word": "strawberry", "letter": "{letter}"}}'
        call = f'<tool_call>{{"name": "letters", "arguments": {arguments}}}</tool_call>'
        episode = conversing.environment.reset(small_prompt("p"), 0)
        assert episode.observe(Action(text=call, token_ids=())).text == answer


def commands() -> list[tuple[str, str]]:
    """Commands that train or evaluate a recipe of the repository, by page."""
    found = []
    for name, text in TEXTS.items():
        lines = [line for block in blocks(text, "") for line in block.splitlines()]
        lines += re.findall(r"`([^`\n]+)`", text)
        for line in lines:
            if re.match(r"rlstep (train|eval) recipes/\w+\.py", line) and not re.search(
                r"FOLDER|x\.py|\.\.\.", line
            ):
                found.append((name, line.partition("  #")[0]))
    return sorted(set(found))


def test_there_are_commands_to_try() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize(("name", "command"), commands())
def test_commands_are_valid(
    name: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every option is one of the recipe's; nothing is started."""
    monkeypatch.setenv("RLSTEP_RUN_DIR", str(tmp_path))
    _, verb, recipe, *options = shlex.split(command)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    options = [option for option in options if option != "--dry-run"]
    options = [o for i, o in enumerate(options) if "--resume" not in options[max(0, i - 1) : i + 1]]
    status = run_recipe(lambda: read_recipe(recipe), [*options, "--dry-run"], verb=verb)
    assert status == 0, capsys.readouterr().err


LOOKING = sorted(
    {
        command
        for text in TEXTS.values()
        for command in re.findall(r"`(rlstep (?:show|report|list|runs) [^`\n]+)`", text)
    }
)


@pytest.mark.parametrize("command", LOOKING)
def test_commands_that_start_nothing_work(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With every option that the page says they have."""
    monkeypatch.setenv("RLSTEP_RUN_DIR", str(tmp_path))
    run = record_run(tmp_path, evaluated=True)
    values = dict.fromkeys(("RUN", "RUN_OR_MODEL", "NAME"), run.name)
    values |= {"N": "3", "ID": "held-1", "ROOM": "losses"}
    _, verb, *words = shlex.split(re.sub(r"[\[\]]|\.\.\.", "", command))
    assert look(verb, [values.get(word, word) for word in words]) == 0, capsys.readouterr().err


def test_there_are_commands_to_look_with() -> None:
    assert {command.split()[1] for command in LOOKING} == {"show", "report", "list", "runs"}


def test_the_families_of_the_readme_are_those_that_are_tried() -> None:
    table = TEXTS["README.md"].partition("| family | seen |")[2].partition("\n\n")[0]
    names = re.findall(r"^\| ([^|-][^|]*?) \|", table, re.MULTILINE)
    written = {re.sub(r"[ -]", "", name).lower() for row in names for name in row.split(", ")}
    assert written == {family.lower() for family in FAMILIES}


def test_what_may_not_change_on_resume_is_named() -> None:
    table = TEXTS["resume.md"].partition("is refused, by name")[2].partition("\n\n")[0]
    refused = " ".join(row.split("|")[2] for row in table.splitlines()[2:])
    for field in (*resuming._RUN, *resuming._LEARNER, *resuming._ADAPTERS):
        assert field.removeprefix("model.") in refused, field


def test_the_metrics_are_made() -> None:
    rows = re.findall(r"^\| (`.*?) \|", TEXTS["metrics.md"], re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(rows) > 15
    for name in names:
        assert f'"{name}"' in SOURCE or f'"{name.partition("/")[2]}"' in SOURCE, name


def test_the_messages_are_said() -> None:
    said = re.findall(r"^\| `([^|]*)` \|", TEXTS["troubleshooting.md"], re.MULTILINE)
    assert len(said) >= 8
    flat = re.sub(r'"\s*f?"', "", re.sub(r"\{[^{}]*\}", "...", SOURCE))
    for message in said:
        words = max(re.split(r"\.\.\.|'[^']*'|[;:,]|\d+", message), key=len).strip()
        assert words in flat, words


@pytest.mark.parametrize("target", re.findall(r"`make ([a-z-]+)`", TEXTS["README.md"]))
def test_make_knows_its_targets(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
