"""wandb's view of rlstep's runs, as code: the same panels as a run's own page, over all runs.

    pip install wandb-workspaces==0.4.13
    WANDB_API_KEY=... python cluster/wandb_dashboard.py ENTITY

makes a saved view in the project and prints its address. Run again it makes another one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlstep.reporting.panels import ALARMS, Panel, sections

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

PACKAGE = "wandb-workspaces==0.4.13"

ALARM_PANEL = Panel(title="Alarms", lines={f"alarm/{name}": name for name in ALARMS})
"""Which figures were above their thresholds; a run's own page has a table of them."""


def workspace(entity: str, project: str, step_models: Sequence[str]) -> Workspace:
    """The view, not saved: nothing is asked of the network.

    Args:
        entity: the user or team that the project belongs to.
        step_models: sources of the runs' step models: 'prm', 'critic', ...

    Raises:
        RuntimeError: wandb-workspaces is not installed; says how to install it.
    """
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise RuntimeError(
            f"wandb-workspaces cannot be imported ({error}); install it: pip install {PACKAGE}"
        ) from error

    def plot(panel: Panel) -> reports.LinePlot:
        return reports.LinePlot(
            title=panel.title,
            x="iteration",
            y=list(panel.lines),
            log_y=panel.log,
            title_y={"%": "share", "s": "seconds"}.get(panel.unit),
            plot_type="stacked-area" if panel.stacked else "line",
        )

    made = []
    for section in sections(step_models):
        panels = [*section.panels, *([ALARM_PANEL] if section.name == "Monitors" else [])]
        plots = [plot(panel) for panel in panels if panel.lines]
        made.append(workspaces.Section(name=section.name, panels=plots, is_open=True))
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="rlstep",
        sections=made,
        settings=workspaces.WorkspaceSettings(x_axis="iteration"),
    )


def main(words: Sequence[str] | None = None) -> int:
    """Save the view and print its address. Returns an exit status."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="wandb_dashboard.py", description=about)
    parser.add_argument("entity", help="the user or team that the project belongs to")
    parser.add_argument("--project", default="rlstep")
    parser.add_argument(
        "--step-models", nargs="*", default=["prm"], help="their sources, such as prm critic"
    )
    given = parser.parse_args(words)
    try:
        view = workspace(given.entity, given.project, given.step_models)
    except RuntimeError as error:
        print(f"wandb_dashboard: {error}", file=sys.stderr)
        return 2
    if not os.environ.get("WANDB_API_KEY"):
        print(
            "wandb_dashboard: WANDB_API_KEY is not set, and a view is saved on wandb's server; set"
            " it, or look at the report.html of a run, which needs no account",
            file=sys.stderr,
        )
        return 2
    view.save()
    print(view.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
