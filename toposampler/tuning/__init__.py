"""Sweeps: many training runs over a space of configurations, on Ray Tune, with Optuna as the ledger of its trials."""
