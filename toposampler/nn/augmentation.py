"""Augmentation of images in front of a critic: differentiable, and without a branch that depends on values.

Both real and generated images pass the same random transformations, so that the generator is not asked for transformed
images as long as the transformations lose nothing in distribution: each is applied with a probability p < 1 alone
(Karras et al. 2020, adaptive discriminator augmentation, ADA, arXiv 2006.06676, section 2.2; the transformations are
those of Zhao et al. 2020, DiffAugment, arXiv 2006.10738, and horizontal flips).

A row of parameters says all that is done to one image, in columns: flip, shift down, shift right (pixels), brightness,
saturation, contrast (added, factor, factor), and the square that is cut out: its center's row and column, and its side
(pixels, 0: none). `neutral` parameters give the image itself, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("flip", "translation", "color", "cutout")
"""transformations by name"""
COLUMNS = 9
SHIFT = 0.125
"""most of a translation, a share of the side"""
CUT = 0.5
"""side of the square that is cut out, a share of the shorter side"""


def draw_parameters(
    size: tuple[int, ...], shape: tuple[int, ...], p: Tensor, kinds: tuple[str, ...], rng: torch.Generator
) -> Tensor:
    """Parameters (*size, 9) of images of `shape` (C, H, W): each of `kinds` is drawn with probability p ().

    The same number of random numbers is drawn whatever p and the kinds, on the device of `rng`.
    """
    _, H, W = shape
    on = torch.rand((*size, len(KINDS)), generator=rng, device=rng.device, dtype=p.dtype)
    u = torch.rand((*size, COLUMNS), generator=rng, device=rng.device, dtype=p.dtype)
    allowed = torch.tensor([kind in kinds for kind in KINDS], device=rng.device)
    applied = (on < p) & allowed
    flip, moved, colored, cut = applied.unbind(-1)
    down, right = (((2 * u[..., i] - 1) * SHIFT * side).round() for i, side in ((1, H), (2, W)))
    side = torch.full_like(u[..., 8], max(1, round(CUT * min(H, W))))
    columns = [
        flip & (u[..., 0] < 0.5),
        torch.where(moved, down, 0),
        torch.where(moved, right, 0),
        torch.where(colored, u[..., 3] - 0.5, 0),
        torch.where(colored, 2 * u[..., 4], 1),
        torch.where(colored, u[..., 5] + 0.5, 1),
        (u[..., 6] * H).floor(),
        (u[..., 7] * W).floor(),
        torch.where(cut, side, 0),
    ]
    return torch.stack([column.to(p.dtype) for column in columns], dim=-1)


def augment(x: Tensor, parameters: Tensor) -> Tensor:
    """Images x (n, C, H, W), each transformed as its row of `parameters` (n, 9) says; differentiable by x."""
    flip, down, right, brightness, saturation, contrast, row, column, side = (
        parameters.to(x.dtype).reshape(len(x), COLUMNS, 1, 1, 1).unbind(1)
    )
    x = torch.where(flip > 0, x.flip(-1), x)
    x = _shifted(_shifted(x, down, -2), right, -1)
    x = torch.where(brightness != 0, x + brightness, x)
    gray = x.mean(dim=1, keepdim=True)
    x = torch.where(saturation != 1, gray + (x - gray) * saturation, x)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = torch.where(contrast != 1, mean + (x - mean) * contrast, x)
    rows = torch.arange(x.shape[-2], device=x.device).view(1, 1, -1, 1)
    columns = torch.arange(x.shape[-1], device=x.device).view(1, 1, 1, -1)
    down, right = rows - row + (side / 2).floor(), columns - column + (side / 2).floor()
    inside = (down >= 0) & (down < side) & (right >= 0) & (right < side)
    return torch.where(inside, 0, x)


def _shifted(x: Tensor, by: Tensor, dim: int) -> Tensor:
    """x (n, C, H, W) moved by whole pixels (n, 1, 1, 1) along `dim`; what comes in is 0, the middle gray."""
    side = x.shape[dim]
    place = torch.arange(side, device=x.device).view((-1, 1) if dim == -2 else (1, -1))
    source = place - by.long()
    moved = x.gather(dim, source.clamp(0, side - 1).expand_as(x))
    return torch.where((source >= 0) & (source < side), moved, 0)
