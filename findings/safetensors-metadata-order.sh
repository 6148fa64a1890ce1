#!/usr/bin/env bash
# safetensors 0.8.0: a file's metadata is written in an order of chance, so equal contents have different bytes.
#
# Expected: `save` of the same tensors and the same dict of metadata gives the same bytes, as it does for the tensors,
# which are sorted, and as dicts keep their order.
# Seen: with four entries of metadata, 50 calls in one process give many different files; with one entry, one file.
# Here: a model's weights have one entry of metadata, since the registry tells models apart by the SHA-256 of their files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import safetensors
from safetensors.numpy import load, save

tensors = {"a": np.arange(3.0), "b": np.ones(2)}

def files(metadata):
    found = {save(tensors, metadata) for _ in range(50)}
    assert all((load(content)["a"] == tensors["a"]).all() for content in found)
    return len(found)

one, four = files({"step": "3"}), files({"step": "3", "data": "x", "seed": "0", "format": "np"})
print("safetensors", safetensors.__version__, "- different files of 50: one entry", one, "- four entries", four)
assert one == 1
assert four > 1, "changed: the order is fixed"
print("as described")
PYTHON
