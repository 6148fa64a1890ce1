"""Weights that a user brings for a network that metrics look through: taken by their hash; no code is run."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor

from toposampler.errors import UserError


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors by name in the file `path` (torch.save or safetensors), whose hash must be `sha256` (64 hexadecimal
    digits).

    Raises UserError if it cannot be read, is another file, or holds anything but tensors by name.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.lower():
        raise UserError(f"{path} has SHA-256 {found}, not {sha256}")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load

            weights = load(content)
        else:
            weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling meets in a file that is something else
        raise UserError(f"{path} holds no weights that torch reads: {str(error).splitlines()[0]}") from None
    if not isinstance(weights, dict):
        raise UserError(f"{path} holds a {type(weights).__name__}, not a dictionary of weights")
    return weights
