"""Post-hoc rejection around a trained model. One module per method; `rejection` makes one by its name."""

from __future__ import annotations

from pathlib import Path

from toposampler.errors import UserError
from toposampler.rejection.base import Drawn, Rejection
from toposampler.rejection.critic import CriticRejection
from toposampler.rejection.density import Density
from toposampler.rejection.jacobian import Jacobian
from toposampler.rejection.latent_rs import MAX_WEIGHT, LatentRS, check_cap
from toposampler.rejection.simplicial import Simplicial
from toposampler.rejection.training import train_weights
from toposampler.training.model import Model

__all__ = ["METHODS", "TRUNCATIONS", "Drawn", "Rejection", "rejection"]

TRUNCATIONS: dict[str, type[Jacobian | Density]] = {"jacobian": Jacobian, "density": Density}
"""those that keep a given share"""
METHODS = (*TRUNCATIONS, "latent_rs", "latent_rs_ga", "simplicial", "critic")


def rejection(
    name: str | None, model: Model, keep: float | None, weights: Path | None, cap: float | None = None
) -> Rejection | None:
    """The method `name` around `model`; None without a name.

    Args:
        name: one of `METHODS`.
        model: stays as it is.
        keep: share of latents that one of `TRUNCATIONS` keeps; others take none.
        weights: checkpoint of latent_rs and latent_rs_ga, trained on the model's data where it is not complete.
        cap: weight from which on latent_rs and latent_rs_ga always accept; None: `MAX_WEIGHT`.

    Raises UserError if there is no such method, or it lacks what it needs, is given what it has no use for, or does not
    fit the model.
    """
    if name is None:
        for flag, value in (("--keep", keep), ("--weights", weights), ("--cap", cap)):
            if value is not None:
                raise UserError(f"{flag} {value} is of use with --rejection only")
        return None
    if name not in METHODS:
        raise UserError(f"there is no rejection {name!r}: choose one of {', '.join(METHODS)}")
    latent_rs = name in ("latent_rs", "latent_rs_ga")
    for flag, value, used, what in (
        ("--keep", keep, name in TRUNCATIONS, "SHARE, of the latents it keeps: more than 0, at most 1"),
        ("--weights", weights, latent_rs, "FILE.pt, its weights, which are trained there if need be"),
        ("--cap", cap, latent_rs, None),
    ):
        if used and value is None and what is not None:
            raise UserError(f"--rejection {name} needs {flag} {what}")
        if not used and value is not None:
            raise UserError(f"{flag} {value}: --rejection {name} has no use for it")
    if keep is not None:
        return TRUNCATIONS[name](model, keep)
    if weights is not None:
        cap = MAX_WEIGHT if cap is None else cap
        check_cap(cap)  # before weights are trained
        return LatentRS(model, train_weights(model, weights), name == "latent_rs_ga", cap)
    return Simplicial(model) if name == "simplicial" else CriticRejection(model)
