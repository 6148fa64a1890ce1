"""Generative models whose data lies on disconnected manifolds: GANs of several generators with learned masses.

    import toposampler
    fitted = toposampler.fit(data)                          train on an array, a table or a path; fitted.sample(1000)
    toposampler.list_systems()                              the systems, with their papers
    model = toposampler.load("runs/lines-dmgan-pl")         a trained model
    samples, generators = model.sample(1000, seed=0)
    toposampler.evaluate(model)                             its metrics against the data it was trained on

`toposampler.train(config)` trains a configuration in this process; `toposampler --help` shows the commands.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toposampler.api import fit as fit
    from toposampler.commands.systems import list_systems as list_systems
    from toposampler.evaluate_model import evaluate as evaluate
    from toposampler.lookup import load as load
    from toposampler.plugins import register as register
    from toposampler.training.entry import train as train

__version__ = "0.1.0"

_HOMES = {
    "fit": "toposampler.api",
    "evaluate": "toposampler.evaluate_model",
    "list_systems": "toposampler.commands.systems",
    "load": "toposampler.lookup",
    "register": "toposampler.plugins",
    "train": "toposampler.training.entry",
}
"""what a notebook needs, by the module that is imported when it is asked for: torch takes seconds, the version none"""

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """The function `name`, from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'toposampler' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
