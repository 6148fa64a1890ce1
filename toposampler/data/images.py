"""What every data set of images shares: which sides there may be, reading, and bytes as numbers."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from toposampler.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE, MAX_SIDE = 8, 512
"""smallest and largest side of an image, in pixels; which of them a network can make, it says itself"""
FORMATS = frozenset({"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF"})
FORMATS |= {"WEBP"}
"""Pillow's formats of pictures; the others it knows are icons, documents that run other programs, and stubs"""
LARGE, MOST_PIXELS_PER_BYTE = 2**25, 4000
"""pixels beyond which an image must have a byte in its file for each `MOST_PIXELS_PER_BYTE` of them: a picture has, and
one altered byte in a header asks for gigabytes"""
TURNED = frozenset({"exif", "xmp"})
"""what a JPEG file has, of which one can say that the picture is turned"""
COMMON = ".png, .jpg, .tif, .gif, .webp and others that Pillow reads"
"""for messages, as all extensions take two lines"""


@cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads, in the order in which it tries them."""
    from PIL import Image  # here, as data without images needs none of it

    Image.init()
    return tuple(name for name in Image.ID if name in FORMATS & Image.OPEN.keys())


@cache
def suffixes() -> tuple[str, ...]:
    """The extensions of the images that this Pillow reads, sorted: of several images in one file, the first."""
    from PIL import Image

    return tuple(sorted(extension for extension, of in Image.registered_extensions().items() if of in formats()))


def image_paths(folder: Path) -> list[Path]:
    """The images anywhere below `folder`, relative to it and sorted; see `found_files`."""
    return [path for path in found_files(folder) if path.suffix.lower() in suffixes()]


def found_files(folder: Path) -> list[Path]:
    """The files anywhere below `folder`, relative to it and sorted; hidden files and folders are passed over.

    Links to folders are followed, unless they lead back to a folder they are in.
    """
    found = [here / name for here, names in _walk(folder) for name in names if not name.startswith(".")]
    return sorted(path.relative_to(folder) for path in found)


def found_folders(folder: Path) -> list[Path]:
    """`folder` and those below it that `found_files` looks into, relative to it and sorted."""
    return sorted(here.relative_to(folder) for here, _ in _walk(folder))


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = [f for f in folders if not f.startswith(".") and not _leads_back(here / f)]
        yield here, names


def by_suffix(paths: Iterable[Path]) -> str:
    """How many of `paths` have which extension, the most frequent first: "10 .jpg, 2 .tif, 1 without extension"."""
    counts = Counter(path.suffix.lower() or "without extension" for path in paths)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {extension}" for extension, n in ordered)


def _leads_back(link: Path) -> bool:
    """Whether `link` is one, to a folder that was passed on the way to it, or to one above."""
    return link.is_symlink() and any(passed.resolve().is_relative_to(link.resolve()) for passed in link.parents)


def read_image(path: Path | zipfile.Path, height: int, width: int, channels: int) -> Tensor:
    """The image in `path`, upright, its largest central part of these proportions resized: (channels, height, width)
    uint8.

    What is transparent shows white. Raises UserError, naming `path`, if it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a file")  # a pipe would be waited for
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise UserError(f"image {path} cannot be read: {str(error)[:500]}") from None
    from PIL import Image  # here, as data without images needs none of it

    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of half the limit
        return decode_image(file, str(path), height, width, channels)


def decode_image(file: IO[bytes], name: object, height: int, width: int, channels: int) -> Tensor:
    """As `read_image`, of the open `file`, which messages call `name`; any thread may call it.

    What a small JPEG file does not need is left out for it.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file, formats=formats()) as image:
            _check_size(image, file)
            if image.format != "JPEG" or not TURNED.isdisjoint(image.info):
                ImageOps.exif_transpose(image, in_place=True)
            upright = _in_mode(_opaque_bytes(image), "L" if channels == 1 else "RGB")
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow's own limit, beyond which a small file can fill the memory
        raise UserError(
            f"image {name} has more than {most:,} pixels, the most that are read: save it smaller"
        ) from None
    except UnidentifiedImageError:
        raise UserError(f"image {name} cannot be read: it is of no kind of picture that Pillow reads") from None
    except Exception as error:  # each format has kinds of its own for what can be wrong with a file
        reason = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        raise UserError(f"image {name} cannot be read: {reason[:500]}") from None
    size = width, height
    fitted = upright if upright.size == size else ImageOps.fit(upright, size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(fitted)).view(height, width, channels).permute(2, 0, 1)


def _check_size(image: Image.Image, file: IO[bytes]) -> None:
    """Raises ValueError if the open `image` says to be larger than its `file` can hold."""
    pixels, place = math.prod(image.size), file.tell()
    if pixels > LARGE and pixels > MOST_PIXELS_PER_BYTE * (size := file.seek(0, os.SEEK_END)):
        raise ValueError(f"it says to have {image.width:,} x {image.height:,} pixels, and has {size:,} bytes")
    file.seek(place)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """`image` in Pillow's `mode`; itself where it has it, as a copy of a large one takes much memory."""
    image.load()
    return image if image.mode == mode else image.convert(mode)


def _opaque_bytes(image: Image.Image) -> Image.Image:
    """`image` on white, with 8 bits a channel. Raises ValueError if it has 32: no number of those is white."""
    from PIL import Image

    if image.mode in ("I", "F"):
        raise ValueError(
            f"it has grays of 32 bits (Pillow's mode {image.mode}), and which of them is white is not known; save it "
            "as PNG with grays of 8 or 16 bits, or in color"
        )
    if image.mode.startswith("I;16"):  # Pillow's own conversion makes all from 255 up white
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:  # Pillow's own conversion shows the colors that transparency hides
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image


def from_bytes(images: Tensor) -> Tensor:
    """uint8 images of any shape as float32 in [-1, 1]: 0 becomes -1, 255 becomes 1."""
    return images.float().div_(127.5).sub_(1)  # in place: a data set can fill much of the memory


def to_bytes(images: Tensor) -> Tensor:
    """Images of any shape in [-1, 1] as uint8, the nearest byte to each number: the inverse of `from_bytes`."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
