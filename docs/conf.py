"""The documentation as a site: `make docs`. reference.py writes the pages that the code itself says."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

sys.path.insert(0, str(Path(__file__).parent))  # for reference.py

import reference

project = "toposampler"
copyright = "the authors of toposampler"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "generated/systems"]  # the latter are parts of pages, which include them
html_theme = "furo"
html_title = "toposampler"
html_static_path = ["_static"]
html_css_files = ["math.css"]
html_math_renderer = "mathml"

reference.write(Path(__file__).parent / "generated")


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line, as MathML."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own, as MathML in a box that scrolls where the screen is narrow."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Formulas become MathML: no script, and nothing from the network."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
