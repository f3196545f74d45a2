"""Makes the policy that the logic recipe begins with, from worked solutions of mixed quality.

    python recipes/logic_sft.py [--out FOLDER]

Without a folder it takes the place of the shipped one; name any other to the recipe with
`--policy.model.path FOLDER`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from logic_process_grpo import POLICY, TASK
from sft_base import Sft, drawn, make_policy, random_policy

from rlstep.tasks.logic import logic_tokenizer, worked_solution
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples


@dataclass(frozen=True, kw_only=True)
class LogicSft(Sft):
    out: str = POLICY
    updates: int = 2400


def batches(options: LogicSft) -> Iterator[LabelSamples]:
    """Fresh solutions for every batch.

    The first third has two premises a problem: to find the next of two is learnt much sooner.
    """
    tokenizer = logic_tokenizer()
    rng = np.random.default_rng(options.seed)
    task = replace(TASK, train=options.problems, evaluation=0)
    for premises, updates in (
        (2, options.updates // 3),
        (TASK.premises, options.updates - options.updates // 3),
    ):
        problems = replace(task, premises=premises).load(tokenizer, 64).train
        for chosen in drawn(problems, options.batch, updates):
            solutions = [worked_solution(prompt, rng, options.sloppy) for prompt in chosen]
            yield solution_samples(chosen, solutions, tokenizer)


def main(options: LogicSft) -> None:
    def fresh(folder: str) -> str:
        """Six tenths of a million parameters."""
        return random_policy(
            folder,
            options.seed,
            logic_tokenizer(),
            vocab_size=128,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=4,
        )

    make_policy(options, fresh, batches(options))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(LogicSft))
