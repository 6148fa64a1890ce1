"""The training loop, the only one: for every system, alone or as one of several data-parallel workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from toposampler.config import TrainingConfig
from toposampler.data import Dataset, Sampler
from toposampler.errors import TrainingStoppedError
from toposampler.systems import System, batches_of
from toposampler.systems.batch import Batch, Noise
from toposampler.training.allocator import keep_freed_memory
from toposampler.training.augmentation import NAME, Augmentation, is_on, pair_sign, real_augmented
from toposampler.training.feed import Feed, expect_next
from toposampler.training.graph import Graphs, capture_for
from toposampler.training.graph_loop import LoopGraphs
from toposampler.training.optimization import FlatPlayer
from toposampler.training.placement import ENSEMBLE, Placement
from toposampler.training.rows import Rows

LoggedTerms = tuple[int, str, list[str], Tensor]
"""generator step, player, names of its loss terms, and their values (terms,)"""

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


class Loop:
    """Steps a system through its game.

    One outer iteration is what `System.schedule` says, by default `critic_steps` steps of the critic and one of every
    other player. For each: freeze the
    others, compute the loss, ONE backward, average the flat gradient over the workers, step. All that is random in an
    iteration is drawn at once, for the global batch, by every worker alike; each then works on its own rows of it. So
    the result is that of one process on the global batch, whatever the number of workers and their placement. The
    loop reads nothing back from a GPU but generator ids that are drawn from a learned prior, once an iteration, and
    what `drain_terms` tells.

    Args:
        system: on the CPU, freshly initialized (alike on every worker; of a sharded ensemble this worker's part).
        dataset: whole on every worker; moved to the device, or read batch by batch (`Dataset.rows`).
        config: the `training` section.
        seed: of the noise and of the order of the data.
        device: where to compute.
        placement: the process group, and what of the system each process holds.
    """

    def __init__(
        self,
        system: System,
        dataset: Dataset,
        config: TrainingConfig,
        seed: int,
        device: torch.device,
        placement: Placement,
    ) -> None:
        keep_freed_memory()
        self.config, self.device, self.placement, self.group = config, device, placement, placement.group
        self.system = system.to(device, DTYPES[config.precision])
        dtype = DTYPES[config.precision]
        self.data = dataset.x.to(device, dtype) if dataset.rows is None else Feed(dataset.rows, device, dtype)
        labels = dataset.all_labels
        self.labels = labels.to(device) if system.uses_labels and labels is not None else None
        self.sampler = Sampler(len(self.data), seed=seed, device=device if dataset.rows is None else "cpu")
        self.rng = torch.Generator(device).manual_seed(seed)
        self.augmentation = Augmentation(config.augmentation, system, device) if is_on(config.augmentation) else None
        self.step = 0
        local = {"generator": ENSEMBLE} if placement.sharded else {}
        self.players = {name: FlatPlayer(player, local.get(name)) for name, player in system.players().items()}
        self.average = torch.cat(self._averaged_values())
        self.phase: Callable[[str], AbstractContextManager[Any]] = lambda _: nullcontext()
        """told what is being done, for a profiler"""
        capture = capture_for(config, device, dataset.rows is not None)
        self.graphs: Graphs | None = None if capture is None else LoopGraphs(self, capture)
        """what takes the iterations, by replaying them; None: each is computed call by call"""
        self._history: list[LoggedTerms] = []  # of this worker, since `drain_terms` or `_settle_terms`
        self._settled: list[LoggedTerms] = []  # the means over workers of those before
        for player in self.players.values():
            player.freeze(True)

    def iteration(self) -> None:
        """One outer iteration, as the system's schedule says: the critic's steps, then one of every other player."""
        moves = self.system.schedule(self.step, self.config.critic_steps)
        if not moves:  # no weights have changed, so that their moving average is what it was
            self.step += 1
            return
        for player in self.players.values():
            player.remaining = self.system.config.remaining(self.step, self.config.generator_steps)
        n_batches = 1 + max(move.batch for move in moves)
        drawn = None
        if self.graphs is not None:
            with self.phase("draw"):
                drawn = self.draw(n_batches)
            with self.phase("graphs"):
                if self.graphs.play(self.step, moves, drawn):
                    return
        with self.phase("draw"):
            batches, noise = self._draw(n_batches, drawn)
        critic = next(iter(self.players))
        with self.phase("fakes for the critic"):
            fakes = self.fakes(batches, noise, batches_of(critic, moves))
        for move in moves:
            batch = batches[move.batch]
            self._move(move.player, replace(batch, fake=fakes[move.batch]) if move.player == critic else batch)
        if self.augmentation is not None and self.augmentation.is_due(self.step):
            last = max(fakes)
            with torch.no_grad(), self.autocast():
                sign = batches[last].mean(pair_sign(self.system, batches[last].real, fakes[last]))
            self.group.average_(sign)
            self.augmentation.adapt(sign, self.batch_size)
        with self.phase("moving average"):
            self._advance()

    def _advance(self) -> None:
        """The end of an outer iteration: update the moving average, count the step."""
        self.move_average(1 - self.ema_decay())
        self.step += 1

    def move_average(self, weight: float | Tensor) -> None:
        """Bring the moving average nearer to the weights, by the part `weight`, in the networks' precision."""
        for average, values in self._average_pairs():
            average.lerp_(values, weight)

    def draw(self, batches: int) -> tuple[Tensor, Noise]:
        """What an iteration sees: indices (batches, n) of real samples, and the noise, tensors (batches, n, ...)."""
        n = self.batch_size
        indices = self.sampler.next(batches * n).view(batches, n)
        noise = self.system.draw(batches, n, self.rng, training=True)
        if self.augmentation is not None:
            system, total = self.system.config, self.config.generator_steps
            grown = 1 - system.remaining(self.step, total) if system.burn_in else 1.0
            noise[NAME] = self.augmentation.draw(batches, n, grown, self.rng)
        return indices, noise if self.labels is None else self.system.condition(noise, self.labels[indices])

    def _draw(self, batches: int, drawn: tuple[Tensor, Noise] | None = None) -> tuple[list[Batch], Noise]:
        """This worker's rows of the global batches of an iteration, and the noise of all of them in one piece; of what
        was `drawn`, or of a new draw."""
        indices, noise = drawn or self.draw(batches)
        rows, owner = self.rows(indices, noise), self.placement.owner(noise["c"])
        return self.batches(rows, lambda i: partial(self.group.gather, owner=owner[i])), rows.noise

    def rows(self, indices: Tensor, noise: Noise) -> Rows:
        """This worker's rows of what was drawn."""
        batches, n = indices.shape
        indices = indices.flatten()
        owner = self.placement.owner(noise["c"])
        sizes = [n] * batches
        noise = {name: x.flatten(0, 1) for name, x in noise.items()}
        if self.group.size > 1:
            mine = owner == self.group.rank
            sizes, rows = mine.sum(dim=1).tolist(), mine.flatten().nonzero().squeeze(1)
            noise = {name: x[rows.to(x.device, non_blocking=True)] for name, x in noise.items()}
            indices = indices[rows.to(indices.device, non_blocking=True)]
        return Rows(indices, noise, sizes)

    def batches(
        self,
        rows: Rows,
        gather: Callable[[int], Callable[[Tensor], Tensor]],
        constants: Mapping[str, Tensor] | None = None,
    ) -> list[Batch]:
        """The batches of an iteration from this worker's `rows`; `gather` of a batch's number, and `constants`, are
        what `Batch` has."""
        indices, noise, sizes = rows.indices, rows.noise, rows.sizes
        real = real_augmented(self.data[indices], noise).split(sizes)
        expect_next([self])
        labels = None if self.labels is None else self.labels[indices].split(sizes)
        parts = {name: x.split(sizes) for name, x in noise.items()}
        share = self.batch_size / self.group.size
        return [
            Batch(
                real=real[i],
                noise={name: part[i] for name, part in parts.items()},
                fake=None,
                step=self.step,
                total_steps=self.config.generator_steps,
                equal_share=None if sizes[i] == share else share,
                gather=gather(i),
                labels=None if labels is None else labels[i],
                constants=constants,
            )
            for i in range(len(sizes))
        ]

    def fakes(self, batches: list[Batch], noise: Noise, wanted: Sequence[int]) -> dict[int, Tensor]:
        """What the generators make of the noise of each of the `wanted` batches, ascending, without gradient; in one
        call, on a part of `noise`, that of all batches, where they are the first."""
        sizes = [len(batches[i].real) for i in wanted]
        if wanted == list(range(len(wanted))):
            noise = {name: x[: sum(sizes)] for name, x in noise.items()}
        else:
            noise = {name: torch.cat([batches[i].noise[name] for i in wanted]) for name in noise}
        with torch.no_grad(), self.autocast():
            fakes = self.system.generate(noise).to(self.data.dtype)
        return dict(zip(wanted, fakes.split(sizes), strict=True))

    @property
    def batch_size(self) -> int:
        """Samples of the global batch now.

        Noise early in the run lets generators leave a component that another one holds; samples of small components
        must be many, late in the run, for their ends to be found. Growing the batch lowers the noise of a step as a
        falling learning rate does (Smith et al. 2018, arXiv 1711.00489).
        """
        return self.batch_size_at(self.step)

    def batch_size_at(self, step: int) -> int:
        """Samples of the global batch after `step` generator steps."""
        grown = step >= self.config.batch_growth_from * self.config.generator_steps
        return self.config.batch_size * (self.config.batch_growth if grown else 1)

    def _move(self, name: str, batch: Batch) -> None:
        player = self.players[name]
        player.freeze(False)
        with self.phase(f"{name}: loss"), self.autocast():
            terms = player.loss(batch)
        with self.phase(f"{name}: backward"):
            values = torch.stack(list(terms.values()))
            values.sum().backward()
        player.freeze(True)
        with self.phase(f"{name}: average over workers"):
            player.average_gradients(self.group)
        with self.phase(f"{name}: step"):
            player.step(self.learning_rate_scale())
        self.log(name, list(terms), values.detach())

    def log(self, player: str, terms: list[str], values: Tensor) -> None:
        """Keep the loss terms (terms,) of a player's step until `drain_terms`."""
        self._history.append((self.step, player, terms, values))

    def autocast(self) -> AbstractContextManager[None]:
        """The precision that forward passes run in."""
        if self.config.precision != "bf16":
            return nullcontext()  # a disabled torch.autocast still costs a few percent of a small network's step
        return torch.autocast(self.device.type, torch.bfloat16)

    def learning_rate_scale(self) -> float:
        """1, then linear to 0 over the last part of the run."""
        done, start = self.step / self.config.generator_steps, self.config.learning_rate_decay_from
        return 1.0 if done <= start else (1 - done) / (1 - start)

    def ema_decay(self) -> float:
        """The configured decay, smaller in the first steps so that the average forgets the initialization.

        In a burn-in its half-life in steps, ln 2 / -ln decay, is the configured one's grown share (R3GAN).
        """
        system, configured = self.system.config, self.config.ema_decay
        if system.burn_in and configured:
            grown = 1 - system.remaining(self.step, self.config.generator_steps)
            return configured ** (1 / grown) if grown else 0.0
        return min(self.config.ema_decay, (1 + self.step) / (10 + self.step))

    def _averaged_values(self) -> list[Tensor]:
        return [self.players["generator"].module_values(name) for name in self.system.averaged]

    def _average_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(moving average, weights) of each module that has one: flat views."""
        values = self._averaged_values()
        return zip(self.average.split([len(v) for v in values]), values, strict=True)

    def drain_terms(self) -> dict[str, float]:
        """The mean over all workers and steps since the last call of every loss term, as `player/term`.

        Losses are fetched from the device here, in bulk, and nowhere else. Raises TrainingStoppedError, naming the step
        and the player, if one was not finite, or if a parameter is not, and if too many images could not be read.
        """
        self._settle_terms()
        if isinstance(self.data, Feed):
            self.data.check(self.group)
        means: dict[str, float] = {}
        for name in self.players:
            records = [(step, terms, values) for step, player, terms, values in self._settled if player == name]
            if not records:
                continue
            values = torch.stack([v for _, _, v in records])
            bad = (~torch.isfinite(values)).any(dim=1)
            if bad.any():
                step, terms, _ = records[int(bad.nonzero()[0])]
                value = dict(zip(terms, values[bad][0].tolist(), strict=True))
                raise TrainingStoppedError(f"the loss of the {name} is not finite at generator step {step}: {value}")
            finite = torch.isfinite(self.players[name].values).all().float()
            self.group.average_(finite)  # of other workers' generators this one knows nothing
            if finite < 1:
                raise TrainingStoppedError(f"a parameter of the {name} is not finite at generator step {self.step}")
            means |= {f"{name}/{term}": v for term, v in zip(records[0][1], values.mean(0).tolist(), strict=True)}
        self._settled.clear()
        return means

    def _settle_terms(self) -> None:
        """Replace this worker's loss terms by their means over all workers, which a checkpoint can hold."""
        for name in self.players:
            own = [entry for entry in self._history if entry[1] == name]
            if own:
                values = torch.stack([entry[3] for entry in own])
                self.group.average_(values)
                self._settled += [(*entry[:3], mean) for entry, mean in zip(own, values, strict=True)]
        self._history.clear()

    def check_replicas(self) -> None:
        """Raises TrainingStoppedError if a player's parameters differ in one bit between workers."""
        for name, player in self.players.items():
            if not self.group.agree(player.shared):
                raise TrainingStoppedError(
                    f"the replicas of the {name} have drifted apart by generator step {self.step}"
                )

    @contextmanager
    def averaged(self) -> Iterator[System]:
        """The system with the moving average of its generators' weights in place of the weights themselves."""
        trained = [values.clone() for values in self._averaged_values()]
        for average, values in self._average_pairs():
            values.copy_(average)
        try:
            yield self.system
        finally:
            for before, values in zip(trained, self._averaged_values(), strict=True):
                values.copy_(before)

    def state_dict(self) -> dict[str, Any]:
        """All that an exact continuation on any number of workers needs, as tensors, numbers and strings.

        Every rank calls it; where the ensemble is sharded, only what rank 0 gets is whole.
        """
        self._settle_terms()
        state = {
            "step": self.step,
            "system": self.system.state_dict(),
            "average": self.average,
            "moments": {name: dict(player.moments()) for name, player in self.players.items()},
            "rng": self.rng.get_state(),
            "sampler": self.sampler.state_dict(),
            "history": [[*entry] for entry in self._settled],
        }
        if self.augmentation is not None:
            state["augmentation"] = self.augmentation.p
        return self.placement.whole_state(state, self.system)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave to rank 0. Where its `rng` is None, from this loop's own, as it is."""
        state = self.placement.part_state(state, self.system)
        self.step = state["step"]
        self.system.load_state_dict(state["system"])
        self.average.copy_(state["average"])
        for name, player in self.players.items():
            player.load_moments(state["moments"][name])
        if state["rng"] is not None:
            self.rng.set_state(state["rng"].cpu())
        self.sampler.load_state_dict(state["sampler"])
        if self.augmentation is not None and "augmentation" in state:  # absent where a run begins with a model
            self.augmentation.p.copy_(state["augmentation"])
        self._history.clear()
        history = state.get("history", [])  # absent from checkpoints of the first version, which had drained it
        self._settled = [(step, name, terms, values.to(self.device)) for step, name, terms, values in history]
