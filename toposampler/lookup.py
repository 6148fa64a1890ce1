"""The model that a place names, be it a path or an address on MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.tracking.uri import REGISTERED
from toposampler.training.model import Model, load_model
from toposampler.training.networks import Given


def load(
    place: str | Path,
    ema: bool = True,
    device: torch.device | str = "cpu",
    tracking_uri: str | None = None,
    networks: Given = None,
) -> Model:
    """The model at `place`, ready to sample from. Nothing stored in it is executed.

    Args:
        place: run folder, checkpoint file, model directory, `models:/NAME@alias`, `models:/NAME/VERSION` or
            `runs:/RUN_ID`.
        ema: sample from the moving average of the generators' weights; False: from the weights themselves.
        device: where to sample.
        tracking_uri: the MLflow that is asked; default: MLFLOW_TRACKING_URI if set, else `runs/mlflow.db`.
        networks: those of a model that has networks of its own: `Networks(generator=..., critic=...)`, a mapping with
            these keys, or the names, `module:function`, that the model has for them. Without them it is refused.

    Raises UserError if there is no such model, it cannot be read, or MLflow does not answer.
    """
    with local(place, tracking_uri) as path:
        return load_model(path, ema, device, networks)


@contextmanager
def local(place: str | Path, tracking_uri: str | None = None, beside: Path | None = None) -> Iterator[Path]:
    """`place`, as for `load`, as a path: a copy, there while the block runs, of what lies on MLflow.

    The copy is made in the folder `beside`; None: among the temporary files. Raises UserError as `load`, or if the copy
    cannot be made there.
    """
    if not str(place).startswith(REGISTERED):
        yield Path(place)
        return
    require("mlflow", "mlflow", str(place))
    from toposampler.tracking.address import default_uri, fetch  # here, because mlflow takes seconds

    try:
        copy = tempfile.TemporaryDirectory(dir=beside)
    except OSError as error:
        raise UserError(f"{beside} cannot be written: {error.strerror}") from None
    with copy as folder:
        yield fetch(str(place), default_uri(tracking_uri), Path(folder))
