"""Small files that are whole whenever the process is killed."""

from __future__ import annotations

import secrets
from pathlib import Path


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
