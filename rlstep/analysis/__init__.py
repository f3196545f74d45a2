"""What can be read off a policy and its training: pure functions of numbers that are there anyhow.

How the information in preferences is spread, where the logprobs of pairs went, how weights and
their changes are distributed, and estimates of a log-partition from few samples. Nothing here knows
of a run or a role, and nothing is a plug-in: who has the numbers (a learner, a view of labels)
asks.
"""
