"""More instructions out of those there are, and which of them are worth training on.

`evolution` has a model write harder ones, in the `ways` there are; `duplicates` leaves out what is
there already; `difficulty` measures how hard an answer is to a model (IFD, IC-IFD), from the
logprobs of a learner or of `model_logprobs`, and keeps the hardest. This makes and selects data
before a run; which prompts an iteration samples from is another matter, a curriculum's.
"""
