"""A small environment of ours under the server of the real package (verifiers 0.4).

    VENV/bin/python verifiers_server.py

Prints its address once it takes requests. It runs where verifiers is installed, which is not here:
nothing of rlstep is imported, and no test imports it. It is its own plug-in: a game in which a
number is guessed, and the program that plays it.
"""

import asyncio
import sys
from pathlib import Path

import httpx  # pyright: ignore[reportMissingImports]
import verifiers.v1 as vf  # pyright: ignore[reportMissingImports]

__all__ = ["Chat", "GuessEnv", "GuessTaskset"]


class GuessData(vf.TaskData):
    answer: int = 0
    guesses: int = 4


class GuessTask(vf.Task[GuessData, vf.State, vf.TaskConfig]):
    pass


class GuessTaskset(vf.Taskset[GuessTask, vf.TasksetConfig]):
    def load(self):
        for answer in range(8, 16):
            yield GuessTask(GuessData(prompt="08-15", answer=answer), self.config.task)


class Chat(vf.Harness[vf.HarnessConfig]):
    """Asks for the next turn of the conversation, in this process."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data, **kwargs):
        _, prompt = self.resolve_prompt(data)
        messages = [{"role": "user", "content": prompt}]
        if not isinstance(prompt, str):
            messages = [{"role": said.role, "content": said.content} for said in prompt]
        async with httpx.AsyncClient(timeout=None) as http:
            answer = await http.post(
                f"{endpoint.rstrip('/')}/chat/completions",
                json={"model": ctx.model, "messages": messages},
                headers={"Authorization": f"Bearer {secret}"},
            )
        failed = answer.status_code != 200
        return vf.ProgramResult(exit_code=int(failed), stdout="", stderr=answer.text[:500])


class GuessConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()


class GuessEnv(vf.Env[GuessConfig]):
    """Says '<' where the number is less than what was guessed, '>' where it is more; pays 1 for the
    number. It raises where 99 is guessed."""

    async def run(self, task, agents):
        won = False
        async with agents.player.interaction(task) as talk:
            segment = await talk.turn()
            for left in reversed(range(task.data.guesses)):
                said = "" if segment.terminated else segment.last_reply.strip()
                won = said == str(task.data.answer)
                if said == "99":
                    raise ValueError("99 is too much")
                if won or not left or segment.terminated:
                    break
                segment = await talk.turn("<" if int(said) > task.data.answer else ">")
        talk.trace.record_reward("won", float(won), 2.0)


async def main() -> None:
    from verifiers.v1.serve import EnvServer  # pyright: ignore[reportMissingImports]
    from verifiers.v1.utils.loaders import (  # pyright: ignore[reportMissingImports]
        resolve_env_config,
    )

    here = {"taskset": {"id": Path(__file__).stem}, "player": {"runtime": {"type": "subprocess"}}}
    server = EnvServer(resolve_env_config(here), "tcp://127.0.0.1:0")
    print(server.address, flush=True)
    await server.run()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    asyncio.run(main())
