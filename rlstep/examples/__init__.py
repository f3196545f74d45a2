"""Labels that are there before training, for `rlstep sft` and `rlstep fit`."""
