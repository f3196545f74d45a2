"""A policy that plays against itself: it answers, judges its answers by votes, and refines what it
finds wrong until it finds it right.

SPaR (Cheng et al. 2024, arXiv:2412.11605). `self_refine` is the rollout strategy; `search` the
trees of refinements that it looks through; `voting` what judgments come to; `refiner_data` what the
judge and the refiner are trained on. The pairs are made in `pairs/accepted`.
"""
