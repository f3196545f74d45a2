"""wandb's view as code: built without the network, refused with the reason."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rlstep.reporting.panels import ALARMS, sections

SCRIPT = Path(__file__).parents[1] / "cluster" / "wandb_dashboard.py"


@pytest.fixture
def dashboard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wandb_dashboard", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("step_models", [["prm"], ["prm", "critic"], []], ids=str)
def test_the_view_has_every_panel_of_the_page(dashboard: ModuleType, step_models: list[str]):
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    view = dashboard.workspace("someone", "rlstep", step_models)
    # As it would be sent: names, axes and metrics in wandb's own form.
    sent = json.loads(view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    made = sent["section"]["panelBankConfig"]["sections"]
    made = [section for section in made if section["panels"]]
    wanted = sections(step_models)
    assert [section["name"] for section in made] == [section.name for section in wanted]
    for section, expected in zip(made, wanted, strict=True):
        configs = [panel["config"] for panel in section["panels"]]
        drawn = {config["chartTitle"]: config["metrics"] for config in configs}
        panels = {panel.title: list(panel.lines) for panel in expected.panels if panel.lines}
        if section["name"] == "Monitors":
            panels["Alarms"] = [f"alarm/{name}" for name in ALARMS]
        assert drawn == panels
        assert all(config["xAxis"] == "iteration" for config in configs)
    assert sent["section"]["settings"]["xAxis"] == "iteration"


def test_without_the_package_it_says_how_to_install_it(
    dashboard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert dashboard.main(["someone"]) == 2
    assert "install it: pip install wandb-workspaces==" in capsys.readouterr().err


def test_without_a_key_nothing_is_sent(
    dashboard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class View:
        def save(self) -> None:
            pytest.fail("it must not be sent")

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(dashboard, "workspace", lambda *arguments: View())
    assert dashboard.main(["someone"]) == 2
    error = capsys.readouterr().err
    assert "WANDB_API_KEY is not set" in error and "report.html" in error


def test_with_a_key_the_view_is_saved_and_its_address_printed(
    dashboard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class View:
        url = "the address"
        saved = False

        def save(self) -> None:
            View.saved = True

    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(dashboard, "workspace", lambda *given: asked.append(given) or View())
    assert dashboard.main(["someone", "--project", "mine", "--step-models", "prm", "urm"]) == 0
    assert asked == [("someone", "mine", ["prm", "urm"])]
    assert View.saved and capsys.readouterr().out == "the address\n"


def test_the_installed_line_is_the_one_that_is_said(dashboard: ModuleType):
    assert f"pip install {dashboard.PACKAGE}\n" in SCRIPT.read_text()
    assert re.fullmatch(r"wandb-workspaces==\d+\.\d+\.\d+", dashboard.PACKAGE)
