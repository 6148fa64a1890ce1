"""Inception's pool features, through which a Frechet distance is the FID; the user brings the weights.

The FID (Heusel et al. 2017, arXiv 1706.08500) is defined by one network, TensorFlow's Inception of 2015-12-05. Its
port, `pt_inception-2015-12-05-6726825d.pth` of github.com/mseitzer/pytorch-fid (Apache 2.0), fits torchvision's
Inception but for the pools: TensorFlow's averages leave the padding out of the count, and the last block takes a
maximum. With random weights the features are pytorch-fid 0.3.0's to the last bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.metrics.weights import read_weights

SIDE = 299
AVERAGED = ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7b")
"""blocks with an average pool"""
_average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)


class Inception:
    """Images to the 2,048 pool features of Inception.

    Args:
        weights: its state, with the names of torchvision's Inception and 1,008 classes. Raises UserError if they do not
            fit.
    """

    name = "inception"

    def __init__(self, weights: dict[str, Tensor]) -> None:
        require("torchvision", "images", "the FID")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torchvision's import uses what torch deprecates
            from torchvision.models import inception_v3  # here, as it takes a second and few ask for the FID
        self.network: Any = inception_v3(num_classes=1008, aux_logits=False, init_weights=False, transform_input=False)
        for name in AVERAGED:
            _repool(getattr(self.network, name), _average)
        _repool(self.network.Mixed_7c, _maximum)
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise UserError(f"the weights are not those of the FID's Inception: {first:.200}") from None
        self.network.fc = nn.Identity()
        self.network.eval()

    @torch.no_grad()
    def features(self, x: Tensor, batch: int = 32) -> Tensor:
        """Images (n, C, H, W) in [-1, 1], C 1 or 3, to (n, 2048) float32.

        A single channel counts as all three; other sizes are brought to 299x299 bilinearly, by torch's rule as in
        pytorch-fid, not TensorFlow's.
        """
        parts = []
        for images in x.float().expand(-1, 3, -1, -1).split(batch):
            parts.append(self.network(F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)))
        return torch.cat(parts)


def load_inception(path: Path, sha256: str) -> Inception:
    """The network with the weights in the file `path`. Raises UserError as `read_weights` and `Inception`."""
    return Inception(read_weights(path, sha256))


def _repool(block: Any, pool: Callable[[Tensor], Tensor]) -> None:
    """Have `block` pool as `pool` does in the last of its branches."""
    branches = block._forward
    block._forward = lambda x: [*branches(x)[:-1], block.branch_pool(pool(x))]
