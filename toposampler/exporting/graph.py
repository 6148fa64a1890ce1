"""A trained model as one module of tensors alone, latents and generator ids to samples: what ONNX can hold."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from toposampler.exporting.frames import ExportedFrames, ExportedImageFrames
from toposampler.nn.ensemble import GeneratorEnsemble
from toposampler.priors.frames import Frames
from toposampler.priors.image_frames import ImageFrames
from toposampler.training.model import Model


class SampleGraph(nn.Module):
    """x = G_c(z) in the user's units, on the CPU, with all that is fixed once training is over written out.

    Whatever stands before or after the generators is part of it: noise module, component frames, standardization.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.system = copy.deepcopy(model.system).cpu().eval().requires_grad_(False)
        self.transform = model.transform
        for name, module in list(self.system.named_modules()):
            if isinstance(module, GeneratorEnsemble):
                self.system.set_submodule(name, Members(module.members()))
            elif isinstance(module, ImageFrames):
                module.__class__ = ExportedImageFrames
            elif isinstance(module, Frames):
                module.__class__ = ExportedFrames
        for module in list(self.modules()):
            _write_out(module)

    def forward(self, latents: Tensor, generators: Tensor) -> Tensor:
        """Latents (n, d) and generator ids (n,) int64 in [0, K) to samples (n, *shape)."""
        if self.system.K == 1:  # an input that nothing depends on would be left out of the graph
            latents = latents + (0 * generators).unsqueeze(1)
        x = self.system.generate({"z": latents, "c": generators})
        return x if self.transform is None else self.transform.to_units(x)


def _write_out(module: nn.Module) -> None:
    """Give `module` its weights as they are, where they are made from others: ONNX has no singular values.

    `torch.nn.utils.parametrize.remove_parametrizations` changes the class that copies share with their original.
    """
    if not parametrize.is_parametrized(module):
        return
    made = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]  # that of a parametrized module is made for it
    for name, x in made.items():
        module.register_parameter(name, nn.Parameter(x, requires_grad=False))


class Members(nn.Module):
    """The generators of an ensemble one after the other, each on the samples that are its own.

    Each also makes one sample more, which is dropped: some runtimes refuse layers without a single row.
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """As `GeneratorEnsemble.forward`."""
        rows = [(c == k).nonzero()[:, 0] for k in range(len(self.members))]
        made = [
            member(torch.cat([z.index_select(0, own), z[:1]]))[:-1]
            for member, own in zip(self.members, rows, strict=True)
        ]
        places = torch.cat(rows)
        order = torch.zeros_like(places).scatter(0, places, torch.arange(places.shape[0]))
        return torch.cat(made).index_select(0, order)
