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

OBJECT_STORE_BYTES = 100_000_000
"""Memory for Ray's objects on a local cluster: nothing but the config and the result goes that way."""


@contextmanager
def cluster(config: ClusterConfig) -> Iterator[None]:
    """Connect to a cluster that has what `config` asks for, and leave it, or stop it if it was started here.

    Raises UserError if there is less than is asked for.
    """
    quiet = {"logging_level": logging.WARNING, "log_to_driver": False}
    on_sigterm = signal.getsignal(signal.SIGTERM)  # ray.init puts its own handler there
    try:
        if address := os.environ.get("RAY_ADDRESS"):
            ray.init(address, **quiet)
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
                **quiet,
            )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)
        yield
    finally:
        ray.shutdown()
