"""A small environment of ours under the server of the real package (openenv 0.10).

    VENV/bin/python open_env_server.py SESSIONS [PING_S]

Prints its port once it takes connections. It runs where openenv is installed, which is not here:
nothing of rlstep is imported, and no test imports it.
"""

import socket
import sys

import uvicorn
from openenv.core.env_server import (  # pyright: ignore[reportMissingImports]
    Action,
    Environment,
    Observation,
    State,
    create_app,
)
from pydantic import Field, field_validator


class Add(Action):
    add: int = Field(ge=0)

    @field_validator("add")
    @classmethod
    def known(cls, value: int) -> int:
        if value == 77:
            raise ValueError("77 is not for adding")
        return value


class Total(Observation):
    total: int
    said: str = ""


class Counting(Environment[Add, Total, State]):
    """Adds what it is told to a number; done at ten or more, and exactly ten pays 1. Any other
    number pays what the reset says, and 99 raises."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def reset(self, seed=None, episode_id=None, start=0, pays=0.1, **kwargs):
        self.at, self.pays = start, pays
        return Total(total=self.at)

    def step(self, action, timeout_s=None, **kwargs):
        if action.add == 99:
            raise RuntimeError("too much")
        self.at += action.add
        pays = 1.0 if self.at == 10 else self.pays
        pays = float(pays) if isinstance(pays, str) else pays
        return Total(total=self.at, said=f"now {self.at}", reward=pays, done=self.at >= 10)

    @property
    def state(self):
        return State()


if __name__ == "__main__":
    app = create_app(Counting, Add, Total, max_concurrent_envs=int(sys.argv[1]))
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    ping = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    config = uvicorn.Config(app, log_level="warning", ws_ping_interval=ping, ws_ping_timeout=ping)
    uvicorn.Server(config).run(sockets=[listening])
