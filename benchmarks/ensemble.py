"""What an ensemble of generators costs, as ratios to one full-width generator, on one CPU thread.

    python benchmarks/ensemble.py [--rounds 15] [--out benchmarks/results/ensemble.json]

One outer iteration (5 critic steps and 1 step of all other players, batch 32) of DMGAN-PL with K generators against
WGAN-GP with a single generator of full width. WGAN-GP has neither encoder nor prior, so a ratio of 1 is below the
floor. `mask` is the authors' way: every generator runs on the full batch at every step, and a mask keeps the samples
asked for.

All variants take turns in one process; a figure is the median over the rounds of CPU seconds an iteration, with its
quartiles. Ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from table_text import markdown
from torch import Tensor, nn
from torch.nn import functional as F

from toposampler.config import TrainingConfig
from toposampler.data import Dataset
from toposampler.nn import networks
from toposampler.priors.latent import LatentConfig
from toposampler.systems import SystemConfig
from toposampler.systems.dmgan_pl import DMGANPLConfig
from toposampler.systems.wgan_gp import WGANGPConfig
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement

LATENT = LatentConfig(dim=100)
LINES, DIGITS = (2,), (1, 28, 28)


class MaskedEnsemble(nn.Module):
    """Every generator, a module of its own, on the full batch; then a mask keeps each sample's own generator."""

    def __init__(self, shape: tuple[int, ...], config: DMGANPLConfig) -> None:
        super().__init__()
        width = networks.default_generator_width(shape, config.K)
        self.members = nn.ModuleList(networks.generator(shape, config.latent.dim, width) for _ in range(config.K))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = torch.stack([member(z) for member in self.members])
        mask = F.one_hot(c, len(self.members)).T.to(x.dtype)
        return (x * mask.view(*mask.shape, *(1,) * (x.dim() - 2))).sum(0)


class LoopWithFakesPerStep(Loop):
    """Generates the fakes of each critic step by themselves, instead of all of an outer iteration in one batch."""

    def iteration(self) -> None:
        critic, *others = self.players
        batches, _ = self._draw(self.config.critic_steps + 1)
        for batch in batches[:-1]:
            with torch.no_grad():
                fake = self.system.generate(batch.noise)
            self._move(critic, replace(batch, fake=fake))
        for name in others:
            self._move(name, batches[-1])
        self._advance()


def iteration(config: SystemConfig, shape: tuple[int, ...], per_step: bool = False) -> Callable[[], None]:
    """One outer iteration of a freshly made system, ready to be called; `per_step` is the authors' way."""
    torch.manual_seed(0)
    system = config.build(shape)
    if per_step:
        assert isinstance(config, DMGANPLConfig)
        system.generators = MaskedEnsemble(shape, config)
    training = TrainingConfig(batch_size=32, critic_steps=5, generator_steps=10**6)
    dataset = Dataset(torch.rand(2000, *shape) * 2 - 1)
    make = LoopWithFakesPerStep if per_step else Loop
    loop = make(system, dataset, training, 0, torch.device("cpu"), Placement())

    def run() -> None:
        loop.iteration()
        loop._history.clear()

    return run


def cpu_milliseconds(run: Callable[[], None], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats * 1e3


def compare(variants: dict[str, Callable[[], None]], repeats: int, rounds: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds of each variant (median and quartiles) and its ratio to the first one."""
    for run in variants.values():
        cpu_milliseconds(run, 2)
    times = [{name: cpu_milliseconds(run, repeats) for name, run in variants.items()} for _ in range(rounds)]
    first = next(iter(variants))
    rows = {}
    for name in variants:
        low, median, high = statistics.quantiles([t[name] for t in times], n=4)
        ratio = statistics.median(t[name] / t[first] for t in times)
        rows[name] = {"ms": median, "ms_low": low, "ms_high": high, "ratio": ratio}
    return rows


def table(results: Mapping[str, Any]) -> list[str]:
    """The Markdown table: CPU milliseconds an iteration, median and quartiles, and the ratio to one generator."""
    rows = [
        [networks, name, f"{row['ms']:.1f} ({row['ms_low']:.1f} to {row['ms_high']:.1f})", f"{row['ratio']:.2f}"]
        for networks, variants in results["tables"].items()
        for name, row in variants.items()
    ]
    return markdown(["networks", "generators", "CPU milliseconds per iteration (quartiles)", "ratio"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ensemble.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)

    def dmgan_pl(K: int) -> DMGANPLConfig:
        return DMGANPLConfig(n_generators=K, latent=LATENT)

    single = WGANGPConfig(latent=LATENT)
    tables = {
        "lines, 2-d multilayer perceptrons": compare(
            {
                "one full-width generator": iteration(single, LINES),
                "K = 10": iteration(dmgan_pl(10), LINES),
                "K = 50": iteration(dmgan_pl(50), LINES),
                "K = 50, mask": iteration(dmgan_pl(50), LINES, per_step=True),
            },
            repeats=20,
            rounds=options.rounds,
        ),
        "28x28 convolutions": compare(
            {
                "one full-width generator": iteration(single, DIGITS),
                "K = 20": iteration(dmgan_pl(20), DIGITS),
                "K = 20, mask": iteration(dmgan_pl(20), DIGITS, per_step=True),
            },
            repeats=1,
            rounds=options.rounds,
        ),
    }
    hardware = f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}"
    results = {"hardware": hardware, "rounds": options.rounds, "tables": tables}
    print(*table(results), hardware, sep="\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
