#!/usr/bin/env bash
# torch 2.14.1, CPU: a generator keeps a 64-bit seed, says so, and draws with its low 32 bits only.
#
# Expected: seeds 0 and 2**32 give other numbers, as `initial_seed()` returns what was given.
# Seen: they give the same numbers, and so do 2**32 - 1 and 2**63 - 1. Two runs "with other seeds" can be one run.
# Here: seeds of runs and data from 2**32 on are refused; blocks of samples have seeds of their own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

def draws(seed):
    generator = torch.Generator().manual_seed(seed)
    assert generator.initial_seed() == seed
    return torch.rand(3, generator=generator).tolist()

print("torch", torch.__version__)
for one, other in ((0, 2**32), (2**32 - 1, 2**63 - 1)):
    print(f"seed {one}: {draws(one)}\nseed {other}: {draws(other)}")
    assert draws(one) == draws(other), "changed: the seeds are told apart"
assert draws(0) != draws(1)
print("as described")
PYTHON
