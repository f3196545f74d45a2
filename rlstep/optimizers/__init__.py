"""Optimizers: what becomes of an update's gradient.

One is chosen by the object that stands in `LearnerConfig.optimizer`. `optimizer.py` is the plug
point, with the rate, the clipping and the schedule that all of them have; AdamW, the default, is
`OptimizerConfig` in `adamw.py`. A plug-in is a configuration that makes a torch optimizer; what
DeepSpeed does with the tensors (ZeRO makes flat pieces of them) it is told by the learner.
"""
