"""A model directory that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from toposampler.errors import UserError
from toposampler.exporting.evaluated import measured_in
from toposampler.exporting.onnx_files import ABOUT, ONNX, write_onnx
from toposampler.training.card import CARD
from toposampler.training.model import load_model, save_model
from toposampler.training.networks import Given

SECTION = f"""
## ONNX

`{ONNX}` holds what makes samples as one graph, and `{ABOUT}` what a program needs to use it: the distribution of the
latents, the masses of the generators, and how far its samples are from torch's.
"""


def export(
    place: Path,
    out: Path,
    license: str | None = None,
    networks: Given = None,
    onnx: bool = False,
    evaluation: Path | None = None,
) -> None:
    """Write the model at `place` to the new model directory `out`, with its card.

    Args:
        place: run folder, checkpoint or model directory.
        out: must not exist; its parent folder must.
        license: of the weights, as an SPDX identifier; None: the one that the model has.
        networks: those of a model that has networks of its own, as for `load_model`.
        onnx: write its generators as ONNX, too.
        evaluation: the evaluation.json whose metrics the card tells, in place of the run's own.

    Raises UserError if it cannot, and leaves nothing behind.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already: remove it, or give another name")
    if not out.parent.is_dir():
        raise UserError(f"{out} cannot be written: there is no folder {out.parent}")
    model = load_model(place, networks=networks)
    measured = None if evaluation is None else measured_in(evaluation, model)
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from None
    try:
        written = draft / "model"
        save_model(place, written, license, networks, measured)
        if onnx:
            write_onnx(load_model(written, networks=networks), written)
            with (written / CARD).open("a", encoding="utf-8") as card:
                card.write(SECTION)
        written.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
