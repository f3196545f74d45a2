"""The tiny run with a judge's outcomes and step scores, from an endpoint of the test's own."""

import os
from dataclasses import replace

from tiny_recipe import config as tiny

from rlstep.config import Config
from rlstep.pairs.outcome import OutcomePairs
from rlstep.scoring.judges.endpoint import Endpoint
from rlstep.scoring.judges.outcome_judge import OutcomeJudge
from rlstep.scoring.judges.routing import Route
from rlstep.scoring.judges.step_judge import StepJudge
from rlstep.scoring.processes.http_call import HttpPolicy


def config() -> Config:
    endpoint = Endpoint(url=os.environ["JUDGE_URL"], model="judge", http=HttpPolicy(backoff_s=0.01))
    every_problem = Route(key="operations", values=("3",))
    return replace(
        tiny(),
        samples=OutcomePairs(step_source="judge"),
        judges=(OutcomeJudge(model=endpoint, votes=3, route=every_problem),),
        labellers=(StepJudge(model=endpoint, judgments=2),),
        step_models=(),
        iterations=2,
        checkpoint_every=0,
    )
