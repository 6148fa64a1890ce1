"""The ways a run can end that are not faults of the program, and their exit codes."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""what the system says of a disk that is full, or of a user's share of it, or that became read-only"""


class UserError(Exception):
    """Bad input: a key, a value, a file or a place. The message names it and says what would be right.

    Commands print the message without a traceback and exit with code 2.
    """


class TrainingStoppedError(Exception):
    """A guard stopped training: a loss or a parameter is not finite, replicas drifted apart, the disk is full.

    The message names the step, what was wrong and the last good checkpoint. Exit code 3.
    """


class StorageError(TrainingStoppedError):
    """A run stopped because its folder cannot be written to: the disk is full, or away. Exit code 3.

    The run itself is sound: once there is room, it continues from its last checkpoint.
    """


def has_no_room(error: Exception) -> bool:
    """Whether `error` says that a disk is full: nothing that is written there now succeeds."""
    return isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno in FULL)


class RunInterruptedError(Exception):
    """Somebody asked a run to stop, and it did, with a checkpoint.

    The message names the step and the checkpoint. Exit code 130 or 143, by the signal that asked.

    Args:
        message: for the user.
        reason: what the run was told when it was asked, the same on every rank.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class TimeUsedError(RunInterruptedError):
    """A run has trained for its `training.minutes`, and stopped with a checkpoint. Exit code 75: run it again."""
