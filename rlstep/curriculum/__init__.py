"""Which prompts an iteration samples from: all in turn, the hardest, those of a level.

A curriculum chooses by the run's seed, the iteration and what was measured of the prompts, and by
nothing else. One that chooses among the prompts of a pool draws them by `shuffled.taken`.

A prompt's level is an int from 0 in its `meta["level"]`, higher for harder problems, as
reasoning-gym has it; its domain is an entry of `meta` that the curriculum names.
"""
