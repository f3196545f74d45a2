"""Train language models to reason step by step, online, on a Ray cluster."""

__version__ = "0.1.0"
