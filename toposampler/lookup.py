"""The model that a place names, be it a path or an address on MLflow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.nn.custom import Networks
from toposampler.storage import fetched, is_address
from toposampler.tracking.uri import REGISTERED
from toposampler.tracking.uri import tracking_uri as recorded_at
from toposampler.training.checkpoint import checkpoints, newest_checkpoint
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.initial import KEPT, check_initial, keep_copy
from toposampler.training.model import Model, checkpoint_state, is_model_directory, load_model
from toposampler.training.networks import Given, given_or_named


def load(
    place: str | Path,
    ema: bool = True,
    device: torch.device | str = "cpu",
    tracking_uri: str | None = None,
    networks: Given = None,
) -> Model:
    """The model at `place`, ready to sample from. Nothing stored in it is executed.

    Args:
        place: run folder, checkpoint file, model directory, also by its address (s3://, gs://, file://);
            `models:/NAME@alias`, `models:/NAME/VERSION` or `runs:/RUN_ID`.
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
    """`place`, as for `load`, as a path: a copy, there while the block runs, of what lies on MLflow or at an address.

    The copy is made in the folder `beside`; None: among the temporary files. Raises UserError as `load`, or if the copy
    cannot be made there.
    """
    if is_address(str(place)):
        with fetched(str(place), beside) as path:
            yield path
        return
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


@contextmanager
def held(path: Path, beside: Path) -> Iterator[Path]:
    """The model at `path`, as for `load_model`, that stays as it is while the block runs: of a run folder or checkpoint
    file a link, or a copy, in the folder `beside` of the newest checkpoint, as a run that still trains makes others and
    deletes this one; of a model directory itself.

    Raises UserError if there is no model, or `beside` cannot be written.
    """
    if is_model_directory(path):
        yield path
        return
    checkpoint_state(path)  # says what is wrong with the place that was given
    try:
        folder = tempfile.TemporaryDirectory(dir=beside)
    except OSError as error:
        raise UserError(f"{beside} cannot be written: {error.strerror}") from None
    with folder as name:
        yield _linked(path, Path(name))


def _linked(path: Path, folder: Path) -> Path:
    """A link to, or where there are none a copy of, the checkpoint at `path`, in `folder`."""
    while True:
        newest = newest_checkpoint(path / "checkpoints") if path.is_dir() else (path, None)
        assert newest is not None
        link = folder / newest[0].name
        try:
            link.hardlink_to(newest[0])
        except FileNotFoundError:  # a run that still trains has deleted it: there is a newer one
            if not path.is_dir():
                raise UserError(f"{path} was deleted while it was read") from None
        except OSError:  # another file system, or one without links
            try:
                shutil.copyfile(newest[0], link)
            except OSError as error:
                raise UserError(f"{newest[0]} cannot be copied to {link}: {error.strerror}") from None
        return link


def fetch_initial(config: RunConfig, dataset: Dataset, networks: Networks | None = None, keep: bool = True) -> None:
    """Make sure that the run `config`, if it has no checkpoint yet, can begin with the model that it names, if any.

    One that is named by its address on MLflow is copied to the run's folder, where training looks for it, if it is to
    be kept. Raises UserError as `local` and `initial_state`.
    """
    config, networks = given_or_named(config, networks)
    folder = run_folder(config)
    begun = checkpoints(folder / "checkpoints") or (config.seeds is not None and (folder / "config.yaml").exists())
    if config.init_from is None or begun:
        return
    if not config.init_from.startswith(REGISTERED) or (folder / KEPT).exists():
        check_initial(config, dataset, networks)
        return
    with local(config.init_from, recorded_at(config.tracking, folder.parent)) as path:
        check_initial(config, dataset, networks, path)
        if keep:
            try:
                keep_copy(path, folder)
            except OSError as error:
                raise UserError(f"init_from: the model cannot be copied to {folder}: {error.strerror}") from None
