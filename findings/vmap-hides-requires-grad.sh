#!/usr/bin/env bash
# torch 2.14.1, CPU: inside torch.func.vmap a tensor that needs a gradient says that it needs none, and gets one.
#
# Expected: `x.requires_grad` inside the mapped function is that of the tensor that is mapped over, True.
# Seen: it is False, `grad_fn` is None too, and yet the result is part of the graph and backward fills `x.grad`. Code
# that asks first, to save the work where no gradient is needed, loses the gradient under vmap without an error.
# Here: the operator of the signature loss asks of which clouds it needs gradients in its rule for batches, where the
# tensors are those from outside (`toposampler/topology/cpu_losses.py`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.func import vmap

said = []


def plain(x):
    said.append((x.requires_grad, x.grad_fn))
    return (x * x).sum()


def thrifty(x):
    return (x * x).sum() if x.requires_grad else (x.detach() * x.detach()).sum()


print("torch", torch.__version__)
x = torch.ones(3, 2, requires_grad=True)
total = vmap(plain)(x).sum()
total.backward()
print("inside vmap: requires_grad, grad_fn =", said[0], "| outside: x.grad =", x.grad.tolist())
assert said == [(False, None)], "changed: a mapped tensor says that it needs a gradient"
assert x.grad.eq(2).all()
print("the same with a question first: result.requires_grad =", vmap(thrifty)(x).sum().requires_grad)
assert thrifty(x).requires_grad
assert not vmap(thrifty)(x).sum().requires_grad, "changed: the gradient is no longer lost"
print("as described")
PYTHON
