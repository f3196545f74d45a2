"""Several models that were fine-tuned from one base, made one: what `rlstep merge` does.

A task vector is all weights of a model less its base's. A merger (`interfaces.Merger`, a file
each) says how much of each goes in; `models` reads and compares the folders, `merge` adds up.
"""
