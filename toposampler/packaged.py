"""The configurations that come with the package, found by their names: `lines_dmgan_pl`.

A wheel holds them inside the package; a checkout, and an installation that is an editable one, beside it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from toposampler.errors import UserError

Kind = Literal["configs", "sweeps"]
PACKAGE = Path(__file__).parent
CHECKOUT: dict[Kind, str] = {"configs": "configs", "sweeps": "tuning"}
"""folders beside the package"""


def packaged(kind: Kind) -> dict[str, Path]:
    """The files that come with the package, by name, in alphabetical order."""
    inside, beside = PACKAGE / kind, PACKAGE.parent / CHECKOUT[kind]
    return {path.stem: path for path in sorted((inside if inside.is_dir() else beside).glob("*.yaml"))}


def find(given: str | Path, kind: Kind = "configs") -> Path:
    """The file that `given` names: an existing path, or else the name of a file that comes with the package.

    What is plainly a path is returned as it is, for its reader to say what is wrong with it. Raises UserError for a
    bare name of nothing, with the names that are close.
    """
    path = Path(given)
    try:
        if path.exists() or path.name != str(given) or "\0" in path.name:
            return path
    except OSError:  # a name that no file can have
        return path
    known = packaged(kind)
    name = path.name.removesuffix(".yaml")
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`toposampler train --help` lists what does"
    raise UserError(f"{given} is no file, and nothing of that name comes with the package: {hint}")
