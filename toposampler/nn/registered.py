"""Networks that go by a name: registered in this process, or entry points of the group `toposampler.networks`.

A generator is a function (shape of a sample, latent_dim) to a module, a critic's trunk a function (shape) to a module,
as `toposampler.nn.custom` says; the key that names one says which it must be.
"""

from toposampler.registry import Functions

NETWORKS = Functions("network", "toposampler.networks")
"""all networks that are not the package's"""
