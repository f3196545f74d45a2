"""Masked diffusion language models: what is hidden of a canvas, its ELBO, how it is unmasked.

A *canvas* is what such a model reads: always equally many tokens, a prompt, its completion and end
tokens behind it to the edge. Some of its tokens are *hidden*, the mask token stands there, and for
each of them the model has a distribution given all that is not, before and behind it. Completions
are written by *unmasking*: all hidden first, a few known with every forward. Their log-likelihood
has no chain to sum over; what can be computed is a lower bound of it, the ELBO, from random
maskings (Nie et al. 2025, arXiv:2502.09992; Sahoo et al. 2024, arXiv:2406.07524).
"""
