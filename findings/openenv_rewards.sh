#!/bin/sh
# A reward that is not finite arrives at the client of openenv as None, which is also what a step
# without a reward has: training that takes None for 0 learns from a bug of the environment, and no
# error says so. And a reset with a misspelt argument is a reset without it.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q openenv==0.10.0
venv/bin/python - <<'PYTHON'
import socket
import threading
from importlib.metadata import version

import uvicorn
from openenv.core import GenericEnvClient
from openenv.core.env_server import Action, Environment, Observation, State, create_app

print("openenv", version("openenv"))


class Pay(Action):
    numerator: float
    denominator: float


class Seen(Observation):
    level: int


class Paying(Environment):
    def reset(self, seed=None, episode_id=None, level=1):
        self.level = level
        return Seen(level=level)

    def step(self, action, timeout_s=None):
        infinite = float("inf") if action.numerator else float("nan")
        reward = action.numerator / action.denominator if action.denominator else infinite
        return Seen(level=self.level, reward=reward)

    @property
    def state(self):
        return State()


listening = socket.create_server(("127.0.0.1", 0))
app = create_app(Paying, Pay, Seen)
server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
threading.Thread(target=server.run, args=([listening],), daemon=True).start()
url = f"http://127.0.0.1:{listening.getsockname()[1]}"
with GenericEnvClient(base_url=url).sync() as client:
    print("reset(level=3):", client.reset(level=3).observation["level"])
    misspelt = client.reset(levle=3).observation["level"]
    print("reset(levle=3):", misspelt)
    found = {}
    for name, pair in {"1 / 2": (1, 2), "0 / 0": (0, 0), "1 / 0": (1, 0)}.items():
        pay = {"numerator": pair[0], "denominator": pair[1]}
        found[name] = client.step(pay).reward
        print(f"a reward of {name}: {found[name]}")
gone = misspelt == 1 and found["0 / 0"] is None and found["1 / 0"] is None
raise SystemExit(0 if gone else "what is not finite, or not known, is told now")
PYTHON
