"""A training run from its configuration to its result, in this process or in each of a process group."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from toposampler.config import to_yaml
from toposampler.data import Dataset
from toposampler.errors import RunInterruptedError, StorageError, TrainingStoppedError, UserError
from toposampler.files import write_atomically
from toposampler.metrics.masses import active_generators
from toposampler.nn.custom import Networks
from toposampler.records import RecordWriter, read_records
from toposampler.storage import Store, fetched
from toposampler.systems import Prepared
from toposampler.training.augmentation import check_augmentation
from toposampler.training.beside import UNFINISHED, Beside, Drawn, Entry, MakeEvaluator, SampleMetrics
from toposampler.training.checkpoint import (
    checkpoint_name,
    checkpoints,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from toposampler.training.conclusion import conclude, write_page
from toposampler.training.config import (
    RunConfig,
    as_begun,
    as_known,
    check_workers,
    differences,
    run_address,
    run_folder,
    stored_config,
)
from toposampler.training.evaluator import SpawnedEvaluator
from toposampler.training.figures import draw_figures, generator_images
from toposampler.training.initial import initial_state
from toposampler.training.lock import PATIENCE_S, TRAINING, locked
from toposampler.training.loop import Loop
from toposampler.training.networks import given_or_named, networks_of
from toposampler.training.numerics import numerics
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup
from toposampler.training.profile import profiled
from toposampler.training.run_length import check_longer
from toposampler.training.sampling import draw_samples
from toposampler.training.snapshots import drop_snapshots_after, snapshot_steps, take_snapshot, write_snapshot
from toposampler.training.stopping import ShouldStop, Stopping

OnCheckpoint = Callable[[int, Path], None]
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def check(config: RunConfig, dataset: Dataset | None = None, networks: Networks | None = None) -> Dataset:
    """Refuse what can be refused before anything starts, and return the data: `dataset`, or else what is loaded here.

    Raises UserError if the data or the system's networks cannot be used, the run's folder cannot be written to, or a
    run of this name was begun with a configuration that differs in more than where it runs and is recorded.
    """
    config, networks = given_or_named(config, networks)
    dataset = check_data(config, dataset, networks)
    folder = run_folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"output: the run's folder {folder} cannot be written to: {error.strerror}") from None
    if (folder / "config.yaml").exists():
        _check_resume(stored_config(folder), config)
    return dataset


def _check_resume(begun: RunConfig, config: RunConfig) -> None:
    """Raises UserError if the run that was `begun` cannot go on as `config`."""
    folder = run_folder(config)
    if (begun.seeds is None) != (config.seeds is None):
        single, several = "a run with one seed", "runs with several seeds (seeds)"
        holds, asked = (single, several) if begun.seeds is None else (several, single)
        raise UserError(f"{folder} holds {holds}, and {asked} would be mixed with it; give another --name")
    if changed := differences(begun, config, longer=True):
        lines = "\n".join(f"  {line}" for line in changed)
        raise UserError(
            f"{folder} holds a run with another configuration; give another --name, or remove the folder:\n{lines}"
        )
    if config.training.generator_steps > begun.training.generator_steps:
        newest = newest_checkpoint(folder / "checkpoints")
        check_longer(folder, begun, config, newest[1]["loop"]["step"] if newest else 0)


def check_data(config: RunConfig, dataset: Dataset | None = None, networks: Networks | None = None) -> Dataset:
    """The data of `config`, once it is known that its system can be trained on them with its networks.

    A system with other networks than the papers' is built once, so that what is wrong with them is said before a
    cluster starts; torch's random state stays as it was. Raises UserError for what cannot be used.
    """
    dataset = config.data.load() if dataset is None else dataset
    config, networks = given_or_named(config, networks)
    system = config.system
    system.check_data(dataset)
    check_augmentation(config.training.augmentation, dataset.shape)
    if len(dataset) < config.training.batch_size:
        number = f"training.batch_size ({config.training.batch_size}) is more than the {len(dataset):,}"
        if dataset.rows is not None:
            raise UserError(
                f"{number} images there are: a batch would hold some of them twice; give less, or more images"
            )
        note = f"warning: {number} samples there are: a batch holds some of them twice; give less, or more samples"
        if note not in dataset.notes:
            dataset = replace(dataset, notes=(*dataset.notes, note))
    if (system.generator_network, system.critic_network) != ("default", "default"):
        with torch.random.fork_rng(devices=()):
            system.build(dataset.shape, networks)
    return dataset


def begin(
    config: RunConfig,
    on_checkpoint: OnCheckpoint | None = None,
    should_stop: ShouldStop = lambda: None,
    dataset: Dataset | None = None,
    networks: Networks | None = None,
    group: ProcessGroup | None = None,
    prepared: Prepared | None = None,
) -> Run:
    """The run of `config`, built and brought to its newest good checkpoint: for `train`, or to be trained in parts.

    Args and errors are those of `train`; `group` is in place of the current one, and `prepared` what the system takes
    from these data, where another run has found it. Close the run at the end, or use it in
    a `with` block: until then other processes are kept off its folder.
    """
    group = group or ProcessGroup.current()
    run = alike(group, lambda: Run(config, group, on_checkpoint, should_stop, dataset, networks, prepared))
    try:
        digests = group.all_values((run.digest, run.prepared.digest()))
        for rank, (data, decided) in enumerate(digests):
            if data != digests[0][0]:
                raise UserError(f"worker {rank} reads other data than worker 0: all must see the same files")
            if decided != digests[0][1]:
                raise UserError(
                    f"worker {rank} finds other components in the data than worker 0: name system.n_generators, or run "
                    "on machines with the same packages"
                )
        _resume(run, group)
    except BaseException:
        run.close()
        raise
    log.info("at step %d of %d, workers: %d", run.loop.step, config.training.generator_steps, group.size)
    return run


def _resume(run: Run, group: ProcessGroup) -> None:
    """Have every rank resume from the newest checkpoint, or from a first one that holds the model to begin with.

    Raises UserError as `newest_checkpoint` and `initial_state`.
    """
    newest = alike(group, lambda: run.newest_or_first() if group.rank == 0 else None)
    if path := group.first(newest[0] if newest else None):
        alike(group, lambda: run.resume(path, newest[1] if newest else run.read(path)))


def keep_shorter_result(folder: Path, steps: int) -> None:
    """Rename the `result.json` in `folder`, if it is of fewer than `steps` generator steps: the run was lengthened."""
    path = folder / "result.json"
    try:
        done = json.loads(path.read_text())["generator_steps"]
        if done < steps:
            path.rename(folder / f"result_{checkpoint_name(done).removesuffix('.pt')}.json")
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # none, or no result: the end writes it anew
        return


def alike(group: ProcessGroup, action: Callable[[], Result]) -> Result:
    """The result of `action` on this rank; where it fails on one, all raise UserError: else they would wait for it."""
    result, fault = None, None
    try:
        result = action()
    except UserError as error:
        fault = str(error)
    except OSError as error:
        fault = f"the run's folder or data: {error}"
    for rank, other in enumerate(group.all_values(fault)):
        if other is not None:
            raise UserError(other if group.size == 1 else f"worker {rank}: {other}")
    return cast(Result, result)


class Run:
    """One process's part in a training run. It can be trained in parts: several runs in one process take turns."""

    def __init__(
        self,
        config: RunConfig,
        group: ProcessGroup,
        on_checkpoint: OnCheckpoint | None,
        should_stop: ShouldStop,
        dataset: Dataset | None = None,
        networks: Networks | None = None,
        prepared: Prepared | None = None,
    ) -> None:
        config, networks = given_or_named(as_begun(config), networks)
        self.config, self.group, self.on_checkpoint = config, group, on_checkpoint
        self.stopping = Stopping(group, should_stop)
        check_workers(config, group.size)
        self.folder = run_folder(config)
        given = config.data.load() if dataset is None else dataset
        self.dataset = check(config, given, networks) if group.rank == 0 else given
        placement = Placement(group, config.cluster.placement == "sharded")
        self.shards = placement.shards
        self.prepared = prepared or config.system.prepare(self.dataset)
        if self.dataset.rows is not None and self.prepared.labels is not self.dataset.labels:
            raise UserError(
                f"system.name {config.system.name} finds components in all of its data, and with data.cache "
                f"{getattr(config.data, 'cache', None)} only a part is in memory: set data.cache device"
            )
        check_workers(config.model_copy(update={"system": self.prepared.config}), group.size)
        torch.manual_seed(config.seed)
        system = self.prepared.build(self.dataset.shape, networks, placement.shard)
        self.networks = networks_of(config.system, system.networks)
        device = torch.device("cuda" if config.cluster.use_gpu else "cpu")
        trained_on = replace(self.dataset, labels=self.prepared.labels)
        self.loop = Loop(system, trained_on, config.training, config.seed, device, placement)
        self.digest = self.dataset.digest()
        self.newest: Path | None = None
        """the checkpoint that was read or written last"""
        self.origin: dict[str, Any] | None = None
        """of the model that the run began with"""
        self.seconds_before = 0.0
        self.started = self.paused = time.monotonic()
        self.profiles = config.cluster.profile
        self.snapshot_steps: frozenset[int] = frozenset()
        """generator steps after which samples are kept; only of a run that is trained alone, from here to its end"""
        self.sample_metrics = SampleMetrics(self.dataset, config.seed, self.loop.system.least_active)
        self.beside: Beside | None = None
        """of rank 0, where another process evaluates; only of a run that is trained alone, from here to its end"""
        self._unfinished: dict[str, float] | None = None
        """what the checkpoint resumed from has of the record of its step, whose evaluation was in flight"""
        self._first: dict[str, Any] | None = None
        if group.rank == 0 and config.init_from is not None and not checkpoints(self.folder / "checkpoints"):
            self._first = initial_state(config, self.dataset, system.networks)  # or refused, before the folder is taken
        self.lock = ExitStack()  # of rank 0's process, which writes: a second one on this folder is refused
        if group.rank == 0:
            self.lock.enter_context(locked(self.folder, TRAINING, PATIENCE_S))
            write_atomically(self.folder / "config.yaml", to_yaml(config))
            self.records = RecordWriter(self.folder / "metrics.jsonl")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes work on the run's folder, and end the one that evaluates."""
        if self.beside is not None:
            self.beside.close()
        self.lock.close()

    def newest_or_first(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint and its state; where there is none, and the run begins with a model, a first one."""
        folder = self.folder / "checkpoints"
        state, self._first = self._first, None
        newest = newest_checkpoint(folder)
        if newest is not None or state is None:
            return newest
        path = folder / checkpoint_name(state["loop"]["step"])
        try:
            save_checkpoint(path, state)
        except RuntimeError as error:  # torch's zip writer, on a full disk
            raise UserError(f"{path} cannot be written: {error}") from None
        if address := run_address(self.config):  # where the other ranks read it
            Store(address).put(path, f"checkpoints/{path.name}")
        return path, state

    def read(self, path: Path) -> dict[str, Any]:
        """The state in the checkpoint `path` of rank 0, which may be on another machine. Raises UserError."""
        address = run_address(self.config)
        if address is None:
            return read_checkpoint(path)
        with fetched(f"{address}/checkpoints/{path.name}") as copy:
            return read_checkpoint(copy)

    def resume(self, path: Path, state: dict[str, Any]) -> None:
        """Resume from `state`, which the checkpoint `path` holds."""
        if state["data"] != self.digest:
            raise UserError(f"the data has changed since {path} was written; give another --name to start anew")
        if state.get("prepared", self.prepared.digest()) != self.prepared.digest():
            raise UserError(
                f"{path} was written with other components of the same data ({state['decided']}) than are found now "
                f"({dict(self.prepared.decided)}): continue with the version that wrote it, or give another --name"
            )
        self.loop.load_state_dict(state["loop"])
        self.seconds_before = state["seconds"]
        self.origin = state.get("origin")
        self._unfinished = state.get(UNFINISHED)
        self.newest = path
        if self.group.rank == 0:
            keep_shorter_result(self.folder, self.config.training.generator_steps)

    @property
    def seconds(self) -> float:
        """Time spent training, over all the processes that worked on the run one after the other."""
        return self.seconds_before + time.monotonic() - self.started

    def train(self, make_evaluator: MakeEvaluator = SpawnedEvaluator) -> dict[str, Any] | None:
        """Step to the end, and evaluate; see `train`."""
        self._begin_evaluations(make_evaluator)
        self.snapshot_steps = snapshot_steps(self.config.training.generator_steps, self.config.training.snapshots)
        if self.group.rank == 0:
            drop_snapshots_after(self.folder, self.loop.step)
        if self.loop.step == 0:
            self._snapshot()
        self.advance(self.config.training.generator_steps)
        return self.finish()

    def _begin_evaluations(self, make: MakeEvaluator) -> None:
        """Have the process that evaluates beside training, if it is asked for, and repeat what it was at (every rank).

        Raises UserError, on every rank, if there can be none.
        """
        training = self.config.training
        newest_due = (training.generator_steps - 1) // training.evaluate_every * training.evaluate_every
        if self.config.cluster.evaluate_beside and newest_due >= max(self.loop.step, 1):
            self.beside = alike(self.group, lambda: Beside(self.sample_metrics, make) if self.group.rank == 0 else None)
        metrics, self._unfinished = self._unfinished, None
        if metrics is not None and self.group.first(self.group.rank == 0 and self.records.last_step < self.loop.step):
            self._write(metrics, evaluates=True)

    def advance(self, step: int) -> None:
        """Train until `step` generator steps are done; what is due after that step is recorded and saved."""
        self.started += time.monotonic() - self.paused  # what was done between two calls took none of the run's time
        profile = profiled(self.loop, self.folder / "profile") if self.profiles else nullcontext(lambda: None)
        self.profiles = False  # the first iterations are profiled
        try:
            with profile as iteration_ends:
                while self.loop.step < step:
                    with numerics(self.config.training):
                        self.loop.iteration()
                    iteration_ends()
                    self.look_up()
        except TrainingStoppedError as error:
            self._write_what_is_held()
            raise type(error)(f"{error}; last good checkpoint: {self._newest_as_known() or 'none yet'}") from None
        self.paused = time.monotonic()

    def look_up(self) -> dict[str, float] | None:
        """After an iteration: evaluate, record and save as it is time for, and hear whether to stop.

        Returns what was recorded, if it was time for that.
        """
        training, step, last = self.config.training, self.loop.step, self.config.training.generator_steps
        evaluates = step % training.evaluate_every == 0 and step < last
        saves = step % training.checkpoint_every == 0 or step == last
        recorded = self._record(evaluates) if step % training.log_every == 0 or evaluates or saves else None
        self._snapshot()
        if saves:
            self.save()
        if reason := self.stopping.after(step):
            if not saves:
                self.save()
            message = f"stopped after generator step {step}; checkpoint: {self._newest_as_known()}"
            raise RunInterruptedError(message, reason)
        return recorded

    def _record(self, evaluates: bool) -> dict[str, float]:
        """Fetch the loss terms (on every rank: they are averaged over all) and write a line of metrics.jsonl."""
        metrics = self.loop.drain_terms()
        prior = self.loop.system.prior()
        if prior is not None:
            metrics |= {f"mass/{k}": mass for k, mass in enumerate(prior.tolist())}
        return self._write(metrics, evaluates)

    def _write(self, metrics: dict[str, float], evaluates: bool) -> dict[str, float]:
        """Write `metrics` and, with `evaluates`, those of an evaluation as the record of this step; every rank calls
        it. Returns the record; without the evaluation, where that is done beside training."""
        measured = None if self.beside is None else time.time()
        drawn = self._draw(self.config.training.evaluation_samples // 5) if evaluates else None
        if drawn is not None and self.beside is None and self.group.rank == 0:
            metrics = metrics | {f"eval/{name}": value for name, value in self.sample_metrics.metrics(drawn).items()}
        entry = Entry(self.loop.step, metrics, measured)
        self._append([entry] if self.beside is None else self.beside.add(entry, drawn))
        return metrics

    def _append(self, entries: Sequence[Entry]) -> None:
        """Have rank 0 append `entries` to metrics.jsonl; every rank calls it."""

        def write() -> None:
            for entry in entries:
                self.records.write(*entry)

        self._on_disk("metrics.jsonl", write)

    def _write_what_is_held(self) -> None:
        """Write, where training has failed, the records that wait for an evaluation: as far as they can be."""
        if self.beside is not None:
            with suppress(OSError):  # a full disk may be what it failed of
                for entry in self.beside.ready(wait=True):
                    self.records.write(*entry)

    def _snapshot(self) -> None:
        """Keep samples of this step, if it is one of those: before its checkpoint, which a resumed run begins after."""
        if self.loop.step not in self.snapshot_steps or (self.group.rank > 0 and self.shards.size == 1):
            return
        with self.loop.averaged() as system:
            content = take_snapshot(system, self.dataset.shape, self.config.seed, self.shards)
        if self.group.rank == 0:
            with suppress(OSError):  # a full disk stops the run where it loses something, at the next record
                write_snapshot(self.folder, self.loop.step, content)

    def _draw(self, n: int) -> Drawn:
        """n samples of the averaged generators in the user's units, their makers, and the prior: on the CPU, of rank 0;
        every rank calls it."""
        with self.loop.averaged() as system:
            samples, ids = draw_samples(system, n, self.config.seed, shards=self.shards)
        samples = self.dataset.to_units(samples.float().cpu())
        if not self.group.first(bool(torch.isfinite(samples).all())):
            raise TrainingStoppedError(f"samples are not finite after generator step {self.loop.step}")
        prior = self.loop.system.prior()
        return Drawn(samples, ids.cpu(), None if prior is None else prior.detach().cpu())

    def save(self) -> None:
        """Save everything (rank 0), after a look that replicas agree; then tell `on_checkpoint`, on every rank."""
        self.loop.check_replicas()
        unfinished = None if self.beside is None else self.beside.waiting(self.loop.step)
        if self.config.cluster.evaluate_beside:  # records of earlier steps are on disk before a checkpoint follows them
            self._append([] if self.beside is None else self.beside.ready(wait=unfinished is None))
        state = {
            "config": self.config.model_dump(mode="json"),
            "decided": dict(self.prepared.decided),
            "prepared": self.prepared.digest(),
            "shape": list(self.dataset.shape),
            "data": self.digest,
            "samples": len(self.dataset),
            "transform": None if self.dataset.transform is None else self.dataset.transform.state(),
            "seconds": self.seconds,
            "networks": {role: network.model_dump() for role, network in self.networks.items()},
            "loop": self.loop.state_dict(),
        } | ({} if self.origin is None else {"origin": self.origin})
        if unfinished is not None:
            state[UNFINISHED] = dict(unfinished)
        path = self._checkpoint_path()
        self._on_disk(path.name, lambda: save_checkpoint(path, state, self.newest))
        self.newest = path
        if self.on_checkpoint is not None:
            self.on_checkpoint(self.loop.step, path)

    def _newest_as_known(self) -> str | None:
        return None if self.newest is None else as_known(self.config, self.newest)

    def _checkpoint_path(self) -> Path:
        return self.folder / "checkpoints" / checkpoint_name(self.loop.step)

    def _on_disk(self, what: str, write: Callable[[], None]) -> None:
        """Have rank 0 `write`. If its disk is full, or away, every rank stops, and none waits for another."""
        fault = None
        if self.group.rank == 0:
            try:
                write()
            except (OSError, RuntimeError) as error:  # torch's zip writer raises the second
                fault = f"{what} cannot be written to {self.folder} at generator step {self.loop.step}: {error}"
        if fault := self.group.first(fault):
            raise StorageError(fault)

    def finish(self, figures: bool = True) -> dict[str, Any] | None:
        """Evaluate, draw the figures unless asked not to, and write samples.npz and, last of all, result.json: rank 0,
        from all samples."""
        log.info("evaluating %d samples", self.config.training.evaluation_samples)
        drawn = self._draw(self.config.training.evaluation_samples)
        with self.loop.averaged() as system:
            images = generator_images(system, self.shards) if figures and len(self.dataset.shape) == 3 else []
        if self.group.rank > 0:
            return None
        try:
            return self._write_results(drawn, images, figures)
        except OSError as error:
            raise StorageError(
                f"training is complete, but its results cannot be written to {self.folder}: {error}; the same command "
                "writes them again"
            ) from None

    def _write_results(self, drawn: Drawn, images: list[tuple[str, Tensor]], figures: bool) -> dict[str, Any]:
        self.records.close()
        samples, ids = drawn.samples, drawn.ids
        found = self.sample_metrics.evaluation(drawn)
        np.savez_compressed(self.folder / "samples.npz", samples=samples.numpy(), generators=ids.numpy())
        if figures:
            records, name = read_records(self.folder / "metrics.jsonl"), self.config.name
            log.info("drawing the figures")
            sampled, place = (samples, ids), self.folder / "figures"
            draw_figures(place, self.loop.system, self.dataset, sampled, images, records, found, name)
        prior = self.loop.system.prior()
        words: dict[str, Any] = {}
        if figures:
            labels, whole = self.prepared.labels, self.shards.size == 1
            averaged, seed = self.loop.averaged(), self.config.seed
            words = conclude(self.folder, averaged, self.dataset, (samples, ids), labels, seed, whole)
        result = {
            "metrics": found.metrics,
            "prior": None if prior is None else prior.tolist(),
            "active_generators": 1 if prior is None else active_generators(prior, self.loop.system.least_active),
            "generator_steps": self.loop.step,
            "seconds": round(self.seconds, 1),
            "model": self._newest_as_known(),
            **words,
        } | ({} if self.origin is None else {"origin": self.origin})
        if self.prepared.report is not None:
            result["components"] = dict(self.prepared.report)
        if figures:
            write_page(self.folder, result)
        write_atomically(self.folder / "result.json", json.dumps(result, indent=2))
        return result
