"""`rlstep report RUN`: the run as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from rlstep.commands.show import arguments, root
from rlstep.reporting.page import write_page
from rlstep.reporting.run_directory import find_run


def main(words: Sequence[str]) -> None:
    """Write report.html into the run's directory, and print where it is.

    Raises:
        ValueError: no such run, or a file that no run writes; names the nearest, or the file.
    """
    given = arguments("report", "A run as one HTML page, in its own directory.").parse_args(words)
    print(write_page(find_run(given.run, root(given))))
