"""What every page of images shares: the sides the networks can make, and bytes as numbers."""

from __future__ import annotations

from torch import Tensor

MIN_SIDE, MAX_SIDE = 8, 64
"""smallest and largest side, in pixels, of the square images the networks can make"""


def from_bytes(images: Tensor) -> Tensor:
    """uint8 images of any shape as float32 in [-1, 1]: 0 becomes -1, 255 becomes 1."""
    return images.float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """Images of any shape in [-1, 1] as uint8, the nearest byte to each number: the inverse of `from_bytes`."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
