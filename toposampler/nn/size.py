"""A bound on what is built: a configuration may ask for a network that no file has the weights of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

TIMES, MORE = 4, 100_000
"""numbers that a module may hold while it is built, for each that it ends with, and beside them: an ensemble holds its
members and then stacks them"""


@contextmanager
def no_larger_than(numbers: int) -> Iterator[None]:
    """Modules that this thread builds in the block may have some `numbers` numbers in their tensors together.

    Raises RuntimeError as soon as they have far more, before they are filled.
    """
    thread, bound, built = threading.get_ident(), TIMES * numbers + MORE, 0

    def count(_module: object, _name: str, tensor: Any) -> None:
        nonlocal built
        if tensor is None or threading.get_ident() != thread:
            return
        built += tensor.numel()
        if built > bound:
            raise RuntimeError(f"it asks for a network of more than {bound:,} numbers, and there are {numbers:,}")

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
