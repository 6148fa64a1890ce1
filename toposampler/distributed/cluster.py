"""The Ray cluster a run works on: the one in RAY_ADDRESS, or a small one of its own on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from toposampler.config import ClusterConfig
from toposampler.distributed.resources import check_resources, of_this_machine, required
from toposampler.errors import UserError

OBJECT_STORE_BYTES = 100_000_000
"""Memory for Ray's objects on a local cluster: nothing but the config and the result goes that way."""
QUIET = {"logging_level": logging.WARNING, "log_to_driver": False}


@contextmanager
def cluster(config: ClusterConfig) -> Iterator[None]:
    """Connect to a cluster that has what `config` asks for, and leave it, or stop it if it was started here.

    Raises UserError if there is less than is asked for, or nothing at RAY_ADDRESS.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)  # ray.init puts its own handler there
    try:
        if address := os.environ.get("RAY_ADDRESS"):
            connect(address)
            check_resources(config, ray.cluster_resources(), f"the Ray cluster at {address}")
        else:
            check_resources(config, of_this_machine(), "this machine")
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else a token is written to the home folder
            asked = required(config)
            ray.init(
                "local",
                num_cpus=int(asked["CPU"]),
                num_gpus=int(asked["GPU"]),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **QUIET,
            )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)
        yield
    finally:
        ray.shutdown()


def connect(address: str) -> None:
    """Connect to the running cluster at `address`. Raises UserError if that cannot be done."""
    try:
        ray.init(address, **QUIET)
    except Exception as error:  # ValueError, ConnectionError, RuntimeError and more, by what is wrong
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"RAY_ADDRESS: cannot connect to a Ray cluster at {address} ({reason}). It must be the host:port of the "
            "head node, such as 127.0.0.1:6379, from a node of the cluster, and not the dashboard's "
            "http://127.0.0.1:8265, which `ray job submit --address` takes; unset it for a Ray on this machine"
        ) from None
