#!/bin/sh
# verifiers keeps episodes in traces.jsonl with four decimals of every token's logprob and advantage.
# Read again, a credit of less than 5e-5 is 0, which a trace has for a group without a gradient, and
# the logprob of a token that was nearly certain is that of a certain one. Per-token advantages are
# that small where a sequence's is divided by its length. The same trace over the wire keeps them.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q verifiers==0.4.0
venv/bin/python - <<'PYTHON'
from importlib.metadata import version
from pathlib import Path

from verifiers.v1 import Trace, WireTaskData
from verifiers.v1.configs.agent import AgentConfig
from verifiers.v1.episode import EnvInfo, Episode
from verifiers.v1.graph import MessageNode
from verifiers.v1.trace import AgentInfo, TraceTask
from verifiers.v1.types import AssistantMessage, UserMessage
from verifiers.v1.utils.trace_store import read_episodes, write_episode

print("verifiers", version("verifiers"))

LOGPROBS = [-3.2e-05, -0.00123456, -4.9e-05]
ADVANTAGES = [2.5e-05, -2.5e-05, 0.00123456]

asked = MessageNode(message=UserMessage(content="2+2"), token_ids=[1, 2], mask=[False] * 2)
answered = MessageNode(
    parent=0,
    message=AssistantMessage(content="4."),
    sampled=True,
    token_ids=[3, 4, 5],
    mask=[True] * 3,
    logprobs=LOGPROBS,
    advantages=ADVANTAGES,
)
task = TraceTask(type="WireTaskData", data=WireTaskData(prompt="2+2"))
agent = AgentInfo(config=AgentConfig())
trace = Trace(task=task, agent=agent, nodes=[asked, answered], is_completed=True, ok=True)
write_episode(Path(), Episode(env=EnvInfo(id="sums"), task=task, traces=[trace], ok=True))
[episode] = read_episodes(Path(), Trace[WireTaskData])
saved = episode.traces[0].nodes[1]
wired = Trace[WireTaskData].model_validate(trace.model_dump(mode="python")).nodes[1]
for name, node in (("written and read", saved), ("over the wire", wired)):
    print(f"{name}: logprobs {node.logprobs}, advantages {node.advantages}")
assert saved.logprobs == [0.0, -0.0012, 0.0], saved.logprobs
assert saved.advantages == [0.0, 0.0, 0.0012], saved.advantages
assert (wired.logprobs, wired.advantages) == (LOGPROBS, ADVANTAGES)
PYTHON
