"""Losses as functions of scores, gradients and optional weights: torch and nothing else, for any loop.

A term is a scalar, an expectation over the samples of a batch. `weights` (n,) say how much each sample counts in it and
sum to 1 over a batch; None: 1 / n each (`toposampler.losses.reduction`).
"""
