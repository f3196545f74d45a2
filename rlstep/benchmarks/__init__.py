"""Benchmarks of models that score, without a policy: `rlstep eval` of a `BenchmarkConfig`.

A benchmark (`interfaces.Benchmark`) reads solutions or answers with what is known of them, and says
what its published protocol makes of a model's scores.
"""
