"""The Ray that a run works on: its own, or the one that is named."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from rlstep.reporting.role_logs import HOOK, keeping_logs
from rlstep.reporting.stages import stage


def worker_path() -> str:
    """PYTHONPATH of the actors: the driver's own, so that they find a recipe's plug-ins."""
    return os.pathsep.join(path for path in sys.path if path)


def start_ray(stack: AsyncExitStack, log: Path) -> None:
    """A new cluster unless one is named: joining whatever runs here would surprise.

    Args:
        stack: what ends it.
        log: the folder for what the actors print.
    """
    kept = stack.enter_context(keeping_logs(log))
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # What Ray 2.60 does for a new cluster anyway, with a warning at every start.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    with stage("Ray"):
        import ray

        ray.init(
            address=address or "local",
            logging_level=logging.WARNING,
            log_to_driver=False,
            include_dashboard=False,  # eleven processes; a named cluster has its own
            runtime_env={
                "worker_process_setup_hook": HOOK,
                "env_vars": {"PYTHONPATH": worker_path(), **kept},
            },
        )
    stack.callback(ray.shutdown)


def set_at_signals(stopped: asyncio.Event) -> None:
    """Ctrl-C and SIGTERM (`ray job stop`) set the event instead of ending the process. After
    `start_ray`, which has handlers of its own.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
