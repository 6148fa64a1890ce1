"""The Ray cluster a run works on: the one in RAY_ADDRESS, or a small one of its own on this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from tqdm import tqdm

from toposampler.config import ClusterConfig
from toposampler.distributed.capacity import wait_for_resources
from toposampler.distributed.ray_private import start
from toposampler.distributed.resources import on_this_machine, shortage, this_machine
from toposampler.errors import UserError

OBJECT_STORE_BYTES = 100_000_000
"""Memory for Ray's objects on a local cluster: nothing but the config and the result goes that way."""
LONGEST_LINE = 200
MAX_SOCKET_BYTES = 107
"""of the name of a Unix socket (sun_path of Linux holds 108, with the 0 at its end)"""


@contextmanager
def cluster(config: ClusterConfig) -> Iterator[None]:
    """Connect to a cluster that has what `config` asks for, and leave it, or stop it if it was started here.

    Raises UserError if there is less than is asked for, or nothing at RAY_ADDRESS.
    """
    try:
        if address := os.environ.get("RAY_ADDRESS"):
            connect(address)
            wait_for_resources(config, f"the Ray cluster at {address}")
        else:
            if short := shortage(config, [this_machine()], "this machine"):
                raise UserError(short)
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else a token is written to the home folder
            _start(on_this_machine(config))
        yield
    finally:
        ray.shutdown()


def _start(has: Mapping[str, float]) -> None:
    """Start a Ray on this machine with what it `has`. Raises UserError if it cannot be started."""
    check_socket_paths()
    try:
        _init(
            "local",
            num_cpus=int(has["CPU"]),
            num_gpus=int(has.get("GPU", 0)),
            memory=has.get("memory"),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
        )
    except Exception as error:  # RuntimeError, TimeoutError, OSError, subprocess's and Ray's own, by what is wrong
        raise UserError(
            f"Ray cannot be started on this machine: {first_line(error)}. It may be too busy, or short of memory or "
            f"of room in {ray_folder()}, where Ray writes its logs (session_latest/logs says more; "
            "TMPDIR places it elsewhere): the same command tries again"
        ) from None


def check_socket_paths() -> None:
    """Raises UserError if the sockets of a Ray started now would have longer names than Unix allows."""
    folder = ray_folder()
    longest = f"{folder}/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    if over := max(0, len(os.fsencode(longest)) - MAX_SOCKET_BYTES):
        variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
        raise UserError(
            f"{variable}: Ray's sockets would lie below {folder}, and their names would be {over} bytes longer than "
            f"the {MAX_SOCKET_BYTES} that Unix allows; set {variable} to a shorter folder, such as /tmp"
        )


def first_line(error: Exception) -> str:
    """What `error` says in its first line, short enough for a message."""
    return str(error).strip().partition("\n")[0][:LONGEST_LINE].rstrip(".") or type(error).__name__


def connect(address: str) -> None:
    """Connect to the running cluster at `address`. Raises UserError if that cannot be done."""
    try:
        _init(address)
    except AuthenticationError as error:
        raise UserError(
            f"RAY_ADDRESS: the Ray cluster at {address} asks for a token ({first_line(error)}). `ray get-auth-token` "
            "prints it on the machine that started the cluster; here: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=..."
        ) from None
    except Exception as error:  # ValueError, ConnectionError, RuntimeError and more, by what is wrong
        raise UserError(
            f"RAY_ADDRESS: cannot connect to a Ray cluster at {address} ({first_line(error)}). It must be the "
            "host:port of the head node, such as 127.0.0.1:6379, from a node of the cluster, and not the dashboard's "
            "http://127.0.0.1:8265, which `ray job submit --address` takes; unset it for a Ray on this machine"
        ) from None


def ray_folder() -> str:
    """Where a Ray started here keeps its sockets and logs, by the variables that it documents."""
    return os.path.join(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")


def _init(address: str, memory: float | None = None, **options: Any) -> None:
    """`ray.init`, quiet, without the handler that it puts on SIGTERM."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    start(address, _OneLineEach(), memory, {"logging_level": logging.WARNING, "log_to_driver": False, **options})
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)


class _OneLineEach:
    """Prints Ray's own messages to a driver, each once and no more of it than a line: that of a dead node has thirty.

    Dead workers are told by `lost.LostWorkers`.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, data: dict[str, Any], ignore_prefix: bool = False) -> None:
        """Takes the place of `print_to_stdstream`; `data` holds `lines`."""
        for message in data["lines"]:
            line = message.strip().partition("\n")[0].partition(" Possible reasons")[0][:LONGEST_LINE]
            if line not in self._seen and not line.startswith("A worker died"):
                self._seen.add(line)
                tqdm.write(f"ray: {line}", file=sys.stderr)
