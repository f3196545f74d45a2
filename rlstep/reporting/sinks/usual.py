"""The sinks of a run that names none."""

from rlstep.interfaces import Sink
from rlstep.reporting.sinks.console import Console
from rlstep.reporting.sinks.files import Files
from rlstep.reporting.sinks.page import Page
from rlstep.reporting.sinks.wandb import Wandb

USUAL: tuple[Sink, ...] = (Page(), Files(), Wandb(), Console())
"""The page stands before the files, and is closed after them: it is made of them."""
