"""Numbers and images as the text that a page holds them in."""

from __future__ import annotations

import base64
import math
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 65_535


def packed(x: NDArray, kind: str) -> str:
    """The array as base64 of little-endian numbers of `kind`: u1, u2 or f4."""
    return base64.b64encode(np.ascontiguousarray(x).astype(f"<{kind}").tobytes()).decode()


def quantized(x: NDArray, low: NDArray | float, high: NDArray | float) -> str:
    """Values from `low` to `high` as 16-bit steps between them, `packed`; what lies outside is put on the border."""
    room = np.where(np.asarray(high) > np.asarray(low), np.asarray(high) - np.asarray(low), 1.0)
    return packed(np.clip((x - low) / room, 0, 1) * LEVELS + 0.5, "u2")


def picture(images: NDArray) -> dict[str, Any]:
    """Images (rows, columns, C, H, W) uint8 as one PNG, base64, with the sizes that say where each is.

    One channel is gray, three are colors; of other numbers the first is shown.
    """
    from PIL import Image  # here, as --help needs none

    rows, columns, channels, height, width = images.shape
    tiled = images.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    file = BytesIO()
    Image.fromarray(tiled if channels == 3 else tiled[..., 0]).save(file, "PNG", optimize=False, compress_level=6)
    sizes = {"rows": rows, "columns": columns, "height": height, "width": width}
    return {**sizes, "png": base64.b64encode(file.getvalue()).decode()}


def plain(value: Any) -> Any:
    """`value` with numbers that JSON can hold: None for those that are not finite, five digits for the others."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
