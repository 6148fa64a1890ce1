"""What every page of images shares: which sides the networks can make, reading, and bytes as numbers."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from toposampler.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE, MAX_SIDE = 8, 64
"""smallest and largest side, in pixels, of the square images the networks can make"""
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def image_paths(folder: Path) -> list[Path]:
    """The images anywhere below `folder`, relative to it and sorted; hidden files and folders are passed over.

    Links to folders are followed, unless they lead back to a folder they are in.
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = [f for f in folders if not f.startswith(".") and not _leads_back(here / f)]
        found += [here / name for name in names if not name.startswith(".")]
    return sorted(path.relative_to(folder) for path in found if path.suffix.lower() in SUFFIXES)


def _leads_back(link: Path) -> bool:
    """Whether `link` is one, to a folder that was passed on the way to it, or to one above."""
    return link.is_symlink() and any(passed.resolve().is_relative_to(link.resolve()) for passed in link.parents)


def read_square(path: Path | zipfile.Path, size: int, channels: int) -> Tensor:
    """The image in `path`, upright, its central square resized: (channels, size, size) uint8.

    What is transparent shows white. Raises UserError, naming `path`, if it cannot be read.
    """
    from PIL import Image, ImageOps  # here, as data without images needs none of it

    try:
        with path.open("rb") as file, Image.open(file) as image:
            upright = _opaque_bytes(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError) as error:
        raise UserError(f"image {path} cannot be read: {error}") from None
    square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).view(size, size, channels).permute(2, 0, 1)


def _opaque_bytes(image: Image.Image) -> Image.Image:
    """`image` on white, with 8 bits a channel. Raises ValueError if it has 32: no number of those is white."""
    from PIL import Image

    if image.mode in ("I", "F"):
        raise ValueError(
            f"it has greys of 32 bits (Pillow's mode {image.mode}), and which of them is white is not known; save it "
            "as PNG with greys of 8 or 16 bits, or in colour"
        )
    if image.mode.startswith("I;16"):  # Pillow's own conversion makes all from 255 up white
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:  # Pillow's own conversion shows the colours that transparency hides
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image


def from_bytes(images: Tensor) -> Tensor:
    """uint8 images of any shape as float32 in [-1, 1]: 0 becomes -1, 255 becomes 1."""
    return images.float().div_(127.5).sub_(1)  # in place: a data set can fill much of the memory


def to_bytes(images: Tensor) -> Tensor:
    """Images of any shape in [-1, 1] as uint8, the nearest byte to each number: the inverse of `from_bytes`."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
