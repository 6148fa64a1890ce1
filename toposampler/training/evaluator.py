"""The process that evaluates beside a training that Ray does not run: spawned, and ended with the training process.

Each side holds one end of a pipe alone, so each learns when the other is gone: the child ends at the end of what it
reads, also where the training process is killed.
"""

from __future__ import annotations

import os
import pickle
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection

import torch

from toposampler.errors import UserError
from toposampler.training.beside import NICENESS, Drawn, EvaluatorLostError, SampleMetrics


class SpawnedEvaluator:
    """A process of its own for `SampleMetrics.metrics`, of as many threads as this one computes with.

    Raises UserError if the data, or a registered metric, cannot be given to another process, or none may be started.
    """

    def __init__(self, evaluate: SampleMetrics) -> None:
        if current_process().daemon:
            raise UserError(
                "cluster.evaluate_beside: this process may start no other, as multiprocessing has made it a daemon (a "
                "worker of multiprocessing.Pool, say): set it false, or use concurrent.futures.ProcessPoolExecutor"
            )
        try:
            content = pickle.dumps(evaluate)
        except (pickle.PicklingError, AttributeError, TypeError) as error:  # what pickle raises of local functions
            raise UserError(
                f"cluster.evaluate_beside: the data or a registered metric cannot be given to another process ({error})"
                "; define what you register at the top of a module, or set cluster.evaluate_beside false"
            ) from None
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, evaluate.threads), daemon=True)
        self._process.start()
        there.close()
        # A pipe takes 64 kB until the other side reads, and that imports torch first: only this thread waits.
        self._thread = ThreadPoolExecutor(1, "evaluator")
        self._begun = self._thread.submit(self._send, content)

    def start(self, drawn: Drawn) -> Future[dict[str, float]]:
        """See `beside.Evaluator`."""
        return self._thread.submit(self._measured, drawn)

    def close(self) -> None:
        """See `beside.Evaluator`."""
        self._process.kill()
        self._process.join()
        self._thread.shutdown()  # what it waits for has broken off
        self._pipe.close()

    def _measured(self, drawn: Drawn) -> dict[str, float]:
        self._begun.result()
        self._send(pickle.dumps(drawn))
        try:
            outcome: dict[str, float] | Exception = self._pipe.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _send(self, content: bytes) -> None:
        try:
            self._pipe.send_bytes(content)
        except OSError:
            raise self._lost() from None

    def _lost(self) -> EvaluatorLostError:
        self._process.join()
        return EvaluatorLostError(f"it ended with exit code {self._process.exitcode}")


def _serve(pipe: Connection, threads: int) -> None:
    """Measure what comes through `pipe`: first the evaluate, then samples, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process, which ends this one
    os.nice(NICENESS)
    torch.set_num_threads(threads)
    try:
        evaluate: SampleMetrics = pickle.loads(pipe.recv_bytes())
        while True:
            pipe.send(evaluate.outcome(pickle.loads(pipe.recv_bytes())))
    except (EOFError, ConnectionError):
        return
