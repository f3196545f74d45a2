"""Aggregation: how the gradients of a learner's ranks become one.

Every rank has the gradient of its own micro-batches. The mean of all is what makes ranks one large
batch, and it is the default; a single rank that computes nonsense (a bad GPU, a stale copy of the
weights) then moves every weight. The others weigh the ranks by how their gradients lie to each
other, for which the p x p inner products are enough. `aggregator.py` is the plug point.
"""
