"""What is trained of a model whose own weights stay as they are: a small change of some layers.

An adapter starts as no change, is switched off to ask the first model, and is merged into the
layers' weights for generators, exports and comparisons.
"""
