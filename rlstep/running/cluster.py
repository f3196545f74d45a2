"""The Ray that a run works on: its own, or the one that is named."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rlstep.reporting.role_logs import HOOK, keeping_logs
from rlstep.reporting.stages import stage
from rlstep.running.access import (
    LOOPBACK,
    check_cluster,
    check_mode,
    named_cluster,
    stay_on_loopback,
)

logger = logging.getLogger(__name__)


def worker_path() -> str:
    """PYTHONPATH of the actors: the driver's own, so that they find a recipe's plug-ins."""
    return os.pathsep.join(path for path in sys.path if path)


def connect(runtime_env: Mapping[str, Any], *, log_to_driver: bool) -> None:
    """`ray.init` for the cluster that RAY_ADDRESS names, or for a new one: joining whatever runs
    here would surprise. Before ray is imported.

    Raises:
        ValueError: Ray would work for whoever reaches it; see `access`.
    """
    named = named_cluster()
    check_mode()
    os.environ["RAY_AUTH_MODE"] = "token"
    if named not in ("", "auto"):
        check_cluster(named)
    inside = {} if named else stay_on_loopback()
    variables = {name: os.environ.get(name, value) for name, value in inside.items()}
    import ray

    ray.init(
        address=named or "local",
        logging_level=logging.WARNING,
        log_to_driver=log_to_driver,
        include_dashboard=False,  # eleven processes; a named cluster has its own
        runtime_env={**runtime_env, "env_vars": variables | runtime_env.get("env_vars", {})},
    )
    try:
        if named == "auto":
            check_cluster(ray.get_runtime_context().gcs_address)
        elif not named and (host := ray.util.get_node_ip_address()) != LOOPBACK:
            logger.warning("Ray listens on %s: it was imported before the run began", host)
    except BaseException:
        ray.shutdown()
        raise


def start_ray(stack: AsyncExitStack, log: Path) -> None:
    """The Ray of a run.

    Args:
        stack: what ends it.
        log: the folder for what the actors print.
    """
    kept = stack.enter_context(keeping_logs(log))
    variables = {"PYTHONPATH": worker_path(), **kept}
    with stage("Ray"):
        connect(
            {"worker_process_setup_hook": HOOK, "env_vars": variables},
            log_to_driver=False,
        )
    import ray

    stack.callback(ray.shutdown)


def set_at_signals(stopped: asyncio.Event) -> None:
    """Ctrl-C and SIGTERM (`ray job stop`) set the event instead of ending the process. After
    `start_ray`, which has handlers of its own.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
