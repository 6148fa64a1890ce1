#!/usr/bin/env bash
# torch 2.14.1, CPU: whether nn.MultiheadAttention can be differentiated twice depends on `need_weights`.
#
# Expected: an option that only says whether attention weights are returned does not matter to derivatives.
# Seen: with need_weights=True a gradient penalty (a gradient of a gradient) works; with need_weights=False, the faster
# and recommended way, attention runs as one fused kernel, whose backward has no derivative: RuntimeError.
# Here: the input gradient of a critic asks for the plain kernel, so that both work.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

attention = nn.MultiheadAttention(8, 2, batch_first=True)

def penalty(need_weights):
    x = torch.randn(4, 5, 8, requires_grad=True)
    y, _ = attention(x, x, x, need_weights=need_weights)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    gradient.square().sum().backward()

print("torch", torch.__version__)
penalty(True)
print("need_weights=True: works")
try:
    penalty(False)
except RuntimeError as error:
    print("need_weights=False:", error)
    assert "is not implemented" in str(error)
else:
    raise SystemExit("changed: it works")
with sdpa_kernel(SDPBackend.MATH):
    penalty(False)
print("need_weights=False, plain kernel: works\nas described")
PYTHON
