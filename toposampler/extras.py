"""Packages that only parts of the work need: what the extras in pyproject.toml add to the core."""

from __future__ import annotations

from importlib.util import find_spec

from toposampler.errors import UserError


def installed(package: str) -> bool:
    """Whether `package` can be imported; it is not imported here."""
    return find_spec(package) is not None


def how_to_install(extra: str) -> str:
    """The command that installs the extra; the package is not in an index, so it is of the checkout."""
    return f"pip install '.[{extra}]' in the checkout"


def require(package: str, extra: str, need: str = "this", instead: str = "") -> None:
    """Raises UserError, naming the command that installs it, unless `package` of the extra `extra` is installed.

    Args:
        package: its name when it is imported.
        extra: of pyproject.toml, which installs it.
        need: what needs it, the beginning of a sentence.
        instead: how to continue without it, the end of one.
    """
    if not installed(package):
        way_out = f", or {instead}" if instead else ""
        raise UserError(f"{need} needs {package}, which is not installed: {how_to_install(extra)}{way_out}")
