"""The two ways a run can end that are not faults of the program, and their exit codes."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: a key, a value, a file or a place. The message names it and says what would be right.

    Commands print the message without a traceback and exit with code 2.
    """


class TrainingStoppedError(Exception):
    """A guard stopped training (a loss or a parameter is not finite, replicas drifted apart).

    The message names the step, the player and the last good checkpoint. Exit code 3.
    """
