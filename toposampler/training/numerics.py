"""How torch computes while a run trains: `training.precision` and `training.deterministic`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from toposampler.config import TrainingConfig
from toposampler.errors import UserError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
NO_WAY = "does not have a deterministic implementation"
"""in torch's error"""


@contextmanager
def numerics(training: TrainingConfig) -> Iterator[None]:
    """Have torch compute as `training` says in this block.

    On CUDA float32 products and convolutions are of float32 alone, but with `precision tf32`: torch by itself lets
    convolutions use tf32. With `deterministic` every operation has one order of its sums.

    Raises UserError if an operation has no such form.
    """
    if not training.deterministic and not torch.cuda.is_initialized():
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    memory: Any = torch.utils.deterministic
    fills, strict = memory.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled()
    warns, workspace = torch.is_deterministic_algorithms_warn_only_enabled(), os.environ.get(WORKSPACE)
    matmul.allow_tf32 = cudnn.allow_tf32 = training.precision == "tf32"
    if training.deterministic:
        os.environ[WORKSPACE] = ":4096:8"  # read by cuBLAS when it makes a handle, at the first product
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    except RuntimeError as error:
        if training.deterministic and NO_WAY in str(error):
            what = str(error).split(NO_WAY)[0].strip()
            raise UserError(
                f"training.deterministic true: {what} {NO_WAY}: use another layer, or set it false"
            ) from None
        raise
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        memory.fill_uninitialized_memory = fills
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        else:
            os.environ[WORKSPACE] = workspace
