"""DINOv2's features, through which a Frechet distance is the FD-DINOv2; the user brings the weights.

Stein et al. 2023 (arXiv 2306.04675) found it nearer to what people evaluate than the FID. It is defined by the vision
transformer L/14 of Oquab et al. (arXiv 2304.07193), `dinov2_vitl14_pretrain.pth` of github.com/facebookresearch/dinov2
(Apache 2.0): the class token behind the last norm, 1,024 numbers, of images of 224 x 224. S and B fit too, and are
other metrics. With random weights the features are those of that repository's code (b8931f7) to the last bit.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from toposampler.errors import UserError
from toposampler.metrics.weights import read_weights

SIDE, PATCH, HEAD = 224, 14, 64
"""pixels of an image and of a patch; numbers of one attention head"""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""of ImageNet's channels, in [0, 1]"""
EPSILON = 1e-6
"""of the norms"""


class DinoV2:
    """Images to the class token of DINOv2.

    Args:
        weights: the state of the transformer, with the names of its authors. Raises UserError if they do not fit.
        side: pixels that images are brought to.
    """

    name = "dinov2"

    def __init__(self, weights: dict[str, Tensor], side: int = SIDE) -> None:
        if fault := _fault(weights):
            raise UserError(f"the weights are not those of DINOv2's transformer: {fault}")
        self.weights = {name: x.float() for name, x in weights.items()}
        self.width, self.side = weights["cls_token"].shape[-1], side
        self.depth = _depth(weights)
        self._places = self._positions()

    @torch.no_grad()
    def features(self, x: Tensor, batch: int = 16) -> Tensor:
        """Images (n, C, H, W) in [-1, 1], C 1 or 3, to (n, width) float32.

        A single channel counts as all three; other sizes are brought to 224 x 224 bicubically, with antialiasing, by
        torch's rule.
        """
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
        parts = []
        for images in x.float().expand(-1, 3, -1, -1).split(batch):
            size = (self.side, self.side)
            resized = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
            parts.append(self._tokens(((resized.clamp(-1, 1) + 1) / 2 - mean) / deviation)[:, 0])
        return torch.cat(parts)

    def _tokens(self, x: Tensor) -> Tensor:
        """All tokens behind the last norm (n, 1 + patches, width), the class's first, of normalized images."""
        w = self.weights
        patches = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH)
        tokens = torch.cat([w["cls_token"].expand(len(x), -1, -1), patches.flatten(2).mT], dim=1) + self._places
        for i in range(self.depth):
            block = f"blocks.{i}"
            tokens = tokens + self._attention(self._norm(tokens, f"{block}.norm1"), block) * w[f"{block}.ls1.gamma"]
            hidden = F.gelu(self._linear(self._norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"))
            tokens = tokens + self._linear(hidden, f"{block}.mlp.fc2") * w[f"{block}.ls2.gamma"]
        return self._norm(tokens, "norm")

    def _attention(self, x: Tensor, block: str) -> Tensor:
        n, length, _ = x.shape
        heads = self._linear(x, f"{block}.attn.qkv").view(n, length, 3, -1, HEAD).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads)
        return self._linear(mixed.transpose(1, 2).reshape(n, length, self.width), f"{block}.attn.proj")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (self.width,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPSILON)

    def _positions(self) -> Tensor:
        """What tells the places of the tokens apart, (1, 1 + patches, width), brought to this number of patches.

        The authors scale by (patches + .1) / patches of the training, which moves the grid by a little.
        """
        of_class, grid = self.weights["pos_embed"].split([1, self.weights["pos_embed"].shape[1] - 1], dim=1)
        trained, now = math.isqrt(grid.shape[1]), self.side // PATCH
        if trained == now:
            return self.weights["pos_embed"]
        square = grid.view(1, trained, trained, self.width).permute(0, 3, 1, 2)
        resized = F.interpolate(square, scale_factor=(now + 0.1) / trained, mode="bicubic")
        return torch.cat([of_class, resized.flatten(2).mT], dim=1)


def load_dinov2(path: Path, sha256: str) -> DinoV2:
    """The network with the weights in the file `path`. Raises UserError as `read_weights` and `DinoV2`."""
    return DinoV2(read_weights(path, sha256))


def _depth(weights: dict[str, Tensor]) -> int:
    numbers = [int(found[1]) for name in weights if (found := re.match(r"blocks\.(\d+)\.", name))]
    return 1 + max(numbers, default=-1)


def _fault(weights: dict[str, Tensor]) -> str | None:
    """Which tensor is absent, has another shape than the others ask for, or is none of this network."""
    if not all(isinstance(x, Tensor) for x in weights.values()) or "cls_token" not in weights:
        return "cls_token is absent"
    width = weights["cls_token"].shape[-1]
    if width % HEAD:
        return f"its width {width} is no multiple of {HEAD}"
    vector, shapes = (width,), {"cls_token": (1, 1, width), "mask_token": (1, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, PATCH, PATCH), "patch_embed.proj.bias": vector}
    shapes |= {"norm.weight": vector, "norm.bias": vector}
    for i in range(_depth(weights)):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.{kind}": vector for kind in ("weight", "bias")}
        shapes |= {f"blocks.{i}.ls{k}.gamma": vector for k in (1, 2)}
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            shapes |= {f"blocks.{i}.{name}.weight": (rows, columns), f"blocks.{i}.{name}.bias": (rows,)}
    places = weights.get("pos_embed", torch.empty(0))
    if places.dim() != 3 or math.isqrt(max(0, places.shape[1] - 1)) ** 2 != places.shape[1] - 1:
        return f"pos_embed has shape {list(places.shape)}, which is no square of patches and a class"
    shapes["pos_embed"] = (1, places.shape[1], width)
    for name in shapes.keys() | weights.keys():
        found = tuple(weights[name].shape) if name in weights else None
        if found != shapes.get(name) and not (name == "mask_token" and found is None):
            return f"{name} is {found or 'absent'}, and must be {shapes.get(name, 'absent')}"
    return None
