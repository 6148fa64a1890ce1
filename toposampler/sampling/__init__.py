"""Samples of a trained model written to files, through a rejection sampler or not."""
