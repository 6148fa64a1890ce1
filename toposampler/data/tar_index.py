"""The images in tar archives, laid out as WebDataset has them: the members of one sample share a name up to the first
dot of its last part, `0001.jpg` and `0001.cls`."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from toposampler.errors import UserError

LABEL = ".cls"
"""ending of the member that holds a sample's label: an integer, in ASCII"""
_BLOCK = 512
_TAIL = 2**16
"""bytes that are read at once behind the end of an archive, which is mostly less of zeros"""


class Member(NamedTuple):
    """An image in an archive."""

    name: str
    offset: int
    size: int
    label: int | None


def tar_images(path: Path, endings: tuple[str, ...]) -> list[Member]:
    """The members of the archive `path` that are images by their `endings`, in its order, with their labels.

    Only headers and labels are read. Raises ValueError, which says why, if the archive is damaged, and UserError if a
    label is no integer.
    """
    images: list[tuple[str, str, int, int]] = []
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in _members(archive):
                key, ending = _parted(member.name)
                if ending.lower().endswith(endings):
                    images.append((key, member.name, member.offset_data, member.size))
                elif ending == LABEL:
                    extracted = archive.extractfile(member)
                    labels[key] = _label(extracted.read(32) if extracted else b"", path, member.name)
            _check_end(path, archive.offset)
    except tarfile.TarError as error:
        raise ValueError(f"it is no tar archive, or is damaged or compressed ({error})") from None
    size = path.stat().st_size
    for _, name, offset, length in images:
        if offset + length > size:
            raise ValueError(f"it was cut short: {name} ends at byte {offset + length:,} of {size:,}")
    return [Member(name, offset, length, labels.get(key)) for key, name, offset, length in images]


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The regular files of `archive`; none is remembered, as tarfile itself would."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        if member.isreg():
            yield member


def _parted(name: str) -> tuple[str, str]:
    """The key of a sample and the ending of this member: a/0001.seg.png is a/0001 and .seg.png."""
    place, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    return f"{place}{slash}{stem}", f"{dot}{ending}"


def _label(content: bytes, path: Path, name: str) -> int:
    try:
        return int(content.decode("ascii"))
    except ValueError:
        raise UserError(f"{name} of {path} must hold an integer, the label of its image, found {content!r}") from None


def _check_end(path: Path, offset: int) -> None:
    """Raises ValueError unless the archive's end follows at `offset`, and nothing after it: tarfile itself ends at a
    damaged header too, and at the first block of zeros."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(_BLOCK)
        if not block:
            raise ValueError("it was cut short: the mark of its end is absent")
        if block.count(0) != len(block):
            raise ValueError(f"the header at byte {offset:,} is damaged")
        while rest := file.read(_TAIL):
            if rest.count(0) != len(rest):
                raise ValueError(
                    f"zeros at byte {offset:,} mark its end, and content follows: it is damaged, or several archives "
                    "were joined to one"
                )
