"""The commit of this code, in a git checkout and in a job that was submitted from one."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

COMMIT = "TOPOSAMPLER_GIT_COMMIT"
"""environment variable that tells a job the commit it was submitted from: Ray leaves `.git` behind"""


def git_commit() -> str | None:
    """The commit of this code, where it lies in a git checkout or was submitted from one."""
    here = str(Path(__file__).parent)
    with suppress(OSError):  # no git at all
        git = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if git.returncode == 0:
            return git.stdout.strip()
    return os.environ.get(COMMIT)
