"""Makes the logic policy: supervised training on worked solutions of mixed quality.

    python recipes/logic_sft.py --out /tmp/logic
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from logic_process_grpo import TASK
from sft_base import Sft, make_policy, random_policy

from rlstep.tasks.logic import logic_tokenizer, worked_solution
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples


def batches(options: Sft) -> Iterator[LabelSamples]:
    """Fresh solutions for every batch; problems repeat after an epoch."""
    tokenizer = logic_tokenizer()
    problems = replace(TASK, train=options.problems, evaluation=0).load(tokenizer, 64).train
    rng = np.random.default_rng(options.seed)
    for update in range(options.updates):
        first = update * options.batch % (len(problems) - options.batch)
        chosen = problems[first : first + options.batch]
        solutions = [worked_solution(prompt, rng, options.sloppy) for prompt in chosen]
        yield solution_samples(chosen, solutions, tokenizer)


def main(options: Sft) -> None:
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

    main(tyro.cli(Sft))
