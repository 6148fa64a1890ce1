"""The whole suite on trained models: several draws of each, beside real data against real data. Needs no Ray."""
