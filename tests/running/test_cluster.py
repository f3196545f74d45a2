"""What a run is stopped by."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from rlstep.running.cluster import set_at_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_sets_the_event_and_ends_nothing(number: signal.Signals) -> None:
    stopped = asyncio.Event()
    set_at_signals(stopped)
    try:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stopped.wait(), 60)
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(each)
