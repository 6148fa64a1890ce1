"""Small files that are whole whenever the process is killed, and which texts name a file or folder."""

from __future__ import annotations

import os
import re
import secrets
import zipfile
from pathlib import Path
from typing import IO

from toposampler.errors import UserError

LONGEST_NAME = 255
"""bytes of the name of a file or folder, at most, in Linux and macOS"""
REGISTERED = ("models:/", "runs:/")
"""what the address of a model on MLflow begins with"""


def local_path(text: str) -> str:
    """The file or folder that `text` names, `~` written out as the home folder.

    Raises ValueError for an address such as s3://bucket/runs, which would become a folder `s3:` on this machine, and
    for names that no file can have.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):  # pathlib writes one slash of two
        raise ValueError("remote storage is not supported yet: give a folder or file that all machines see")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(f"there is no home folder {path.split('/')[0]}; write ./{path} for one of this name")
    if (longest := max(len(os.fsencode(name)) for name in path.split("/"))) > LONGEST_NAME:
        raise ValueError(f"a file's name has at most {LONGEST_NAME} bytes, and one here has {longest}")
    return path


def out_path(path: Path, option: str = "--out") -> Path:
    """What `option` names, absolute. Raises UserError as `local_path`."""
    try:
        return Path(local_path(str(path))).absolute()
    except ValueError as error:
        raise UserError(f"{option} {path}: {error}") from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` in one step: whoever reads it finds the old content or the new, never a part.

    Processes, also of several machines, may write the same `path` at once: the last to end prevails. A kill can leave a
    hidden `.NAME.*.new` beside it, which nothing reads.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")  # of this call alone
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # there still if the disk is full


def zip_damage(file: IO[bytes]) -> str | None:
    """What is wrong with the bytes of a zip file, which has a CRC-32 of each part; None if they are whole.

    torch, whose files are such, compares no check sums: a flipped bit in a tensor would go unseen. Raises OSError where
    the disk fails.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            part = archive.testzip()
    except MemoryError:
        raise
    except Exception:  # BadZipFile, and whatever else zipfile raises for altered bytes (struct.error, zlib.error, ...)
        file.seek(0)
        while file.read(2**20):  # zipfile makes a BadZipFile of an input/output error too, which comes again here
            pass
        return "it is not a whole zip file"
    return None if part is None else f"{part} has another check sum than when it was written"
