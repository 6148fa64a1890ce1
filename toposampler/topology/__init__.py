"""Zero-dimensional persistent homology of point clouds, fast and differentiable.

The 0-dimensional Vietoris-Rips barcode of a point cloud is its minimum spanning tree: every edge is a bar that dies
at the edge's length. Choosing the edges needs no gradient (`tree.py`); the lengths of the chosen edges are computed
from the points again, and only they carry gradient (`lengths.py`).
"""

from toposampler.topology.components import Components, estimate_components
from toposampler.topology.edge_lengths import deaths, edge_lengths
from toposampler.topology.signatures import paired_signature_loss, signature_loss
from toposampler.topology.tree import spanning_tree

__all__ = [
    "Components",
    "deaths",
    "edge_lengths",
    "estimate_components",
    "paired_signature_loss",
    "signature_loss",
    "spanning_tree",
]
