"""What every page of images shares: which sides the networks can make, reading, and bytes as numbers."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from toposampler.errors import UserError

MIN_SIDE, MAX_SIDE = 8, 64
"""smallest and largest side, in pixels, of the square images the networks can make"""
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def image_paths(folder: Path) -> list[Path]:
    """The images anywhere below `folder`, relative to it and sorted; hidden files and folders are passed over."""
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*"))]
    visible = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    return [path for path in visible if path.suffix.lower() in SUFFIXES]


def read_square(path: Path | zipfile.Path, size: int, channels: int) -> Tensor:
    """The image in `path`, upright, its central square resized: (channels, size, size) uint8.

    Raises UserError, naming `path`, if it cannot be read.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError) as error:
        raise UserError(f"image {path} cannot be read: {error}") from None
    square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).view(size, size, channels).permute(2, 0, 1)


def from_bytes(images: Tensor) -> Tensor:
    """uint8 images of any shape as float32 in [-1, 1]: 0 becomes -1, 255 becomes 1."""
    return images.float().div_(127.5).sub_(1)  # in place: a data set can fill much of the memory


def to_bytes(images: Tensor) -> Tensor:
    """Images of any shape in [-1, 1] as uint8, the nearest byte to each number: the inverse of `from_bytes`."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
