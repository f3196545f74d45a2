#!/bin/sh
# A writer that goes on from a checkpoint says so by an event 'session START at step 3' (what the
# `purge_step` of PyTorch's SummaryWriter writes): what was written of later steps is to be purged.
# TensorBoard has two loaders. The default one shows every step once, with or without that event.
# With --load_fast=false both values of a step are shown, with that event, too: it purges kinds of
# values that the loader has turned into tensors before.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q tensorboard==2.21.0 tensorboard-data-server==0.7.2 numpy==2.3.5 "setuptools<81"
venv/bin/python - 2>stderr <<'PYTHON' || { code=$?; tail -5 stderr; exit $code; }
import json
import socket
import subprocess
import sys
import time
import urllib.request

import tensorboard
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def write(suffix, steps, offset, restart=None):
    writer = EventFileWriter("logs/run", filename_suffix=suffix)
    if restart is not None:
        session = SessionLog(status=SessionLog.START)
        writer.add_event(Event(step=restart, session_log=session, wall_time=time.time()))
    for step in steps:
        summary = Summary(value=[Summary.Value(tag="loss", simple_value=step + offset)])
        writer.add_event(Event(step=step, summary=summary, wall_time=time.time()))
    writer.close()


def shown(fast):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "logs", "--port", str(port)]
    server = subprocess.Popen([*command, "--load_fast", fast], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=run&tag=loss"
    points, before = [], None
    try:
        for _ in range(240):  # until it is there, has read both files, and shows the same again
            time.sleep(0.5)
            try:
                points = json.load(urllib.request.urlopen(address, timeout=10))
            except OSError:
                continue
            if points == before and points[-1][1] == 5:
                break
            before = points
    finally:
        server.terminate()
        server.wait()
    return [(step, value) for _, step, value in points]


write(".first", range(5), 0)
time.sleep(1.1)  # files are read in the order of their names, which have seconds
write(".second", range(3, 6), 10, restart=3)
print(f"tensorboard {tensorboard.__version__}: steps 0 to 4, then START at 3 and steps 3 to 5")
once, twice = shown("true"), shown("false")
print(f"--load_fast=true   {once}")
print(f"--load_fast=false  {twice}")
again = [step for step, _ in once] == [0, 1, 2, 3, 4, 5]
doubled = [step for step, _ in twice] == [0, 1, 2, 3, 4, 3, 4, 5]
raise SystemExit(0 if again and doubled else "both loaders show the same now")
PYTHON
