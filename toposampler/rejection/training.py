"""Trains the weights of latentRS beside a frozen model, and keeps them in a checkpoint of their own."""

from __future__ import annotations

import copy
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from toposampler.errors import UserError
from toposampler.losses.wasserstein import gradient_penalties
from toposampler.nn.critic import Critic
from toposampler.nn.spectral import advance
from toposampler.rejection.latent_rs import MAX_WEIGHT, WeightNetwork
from toposampler.training.model import Model, data_of

BATCH = 256
CRITIC_STEPS = 2
"""critic steps before each step of the weights"""
LEARNING_RATE, BETAS = 1e-3, (0.0, 0.9)
PENALTY = 10.0
MEAN_WEIGHT, EXCESS_WEIGHT = 10.0, 3.0
SAVE_EVERY = 500
"""steps between two checkpoints and two lines of progress"""


def digest(model: Model) -> str:
    """SHA-256 of the weights that samples are drawn from."""
    sha = hashlib.sha256()
    for name, x in model.system.state_dict().items():
        sha.update(name.encode() + x.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def critic_loss(critic: Critic, real: Tensor, fake: Tensor, w: Tensor, epsilon: Tensor) -> Tensor:
    """-E_real D + E[w D(G)] + 10 * penalty, for real and fake (n, *shape), weights w and places epsilon (n,).

    After one power iteration of a critic with spectral normalization, as in each of its own steps.
    """
    advance(critic)
    n = len(real)
    between = torch.lerp(fake, real, epsilon.view(-1, *(1,) * (real.dim() - 1)))
    scores = critic(torch.cat([real, fake]))
    penalty = gradient_penalties(critic.input_gradient(between), "one-sided").mean()
    return -scores[:n].mean() + (w * scores[n:]).mean() + PENALTY * penalty


def weight_loss(scores: Tensor, w: Tensor) -> Tensor:
    """-E[w D(G)] + 10 (E w - 1)^2 + 3 E max(0, w - 3)^2, for the critic's scores and weights (n,)."""
    mean, excess = (w.mean() - 1).square(), F.relu(w - MAX_WEIGHT).square().mean()
    return -(w * scores).mean() + MEAN_WEIGHT * mean + EXCESS_WEIGHT * excess


def train_weights(model: Model, path: Path, steps: int = 5000, seed: int = 0) -> WeightNetwork:
    """w for `model` against its own data, trained for `steps` steps or on to them from the checkpoint at `path`.

    Raises UserError if the data have changed since the model was trained, if `path` is another model's or was trained
    on other data, or cannot be read or written, or if the model's critic, which is trained on, scores more than a
    sample.
    """
    if not model.system.scores_samples:
        raise UserError(
            f"rejection latent_rs goes on training the model's critic, and that of {model.config.system.name} does not "
            "score samples alone: use --rejection jacobian or critic"
        )
    if not path.parent.is_dir():
        raise UserError(f"the checkpoint {path} of latent_rs cannot be written: there is no folder {path.parent}")
    system, like = model.system, next(model.system.parameters())
    device, real = like.device, data_of(model.config, model.data).x.to(like)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = WeightNetwork(system.latent.dim, system.K).to(like)
    critic = copy.deepcopy(system.critic).requires_grad_(True)
    movers = {"weights": weights, "critic": critic}
    optimizers = {name: torch.optim.Adam(m.parameters(), LEARNING_RATE, BETAS) for name, m in movers.items()}
    rng = torch.Generator(device).manual_seed(seed)
    done = 0
    if path.exists():
        state = _read(path, model)
        done = state["step"]
        rng.set_state(state["rng"])
        for name, module in movers.items():
            module.load_state_dict(state[name])
            optimizers[name].load_state_dict(state[f"{name}_adam"])

    begun, first = time.perf_counter(), done
    for step in range(done + 1, steps + 1):
        for turn in range(CRITIC_STEPS + 1):
            noise = {name: x[0] for name, x in system.draw(1, BATCH, rng).items()}
            with torch.no_grad():
                fake = system.generate(noise)
            w = weights(noise["z"], noise["c"])
            if turn < CRITIC_STEPS:
                rows = torch.randint(len(real), (BATCH,), generator=rng, device=device)
                mover, loss = "critic", critic_loss(critic, real[rows], fake, w.detach(), noise["epsilon"])
            else:
                mover, loss = "weights", weight_loss(critic(fake).detach(), w)
            optimizers[mover].zero_grad()
            loss.backward()
            optimizers[mover].step()
        if step % SAVE_EVERY == 0 or step == steps:
            state = {"kind": "latent_rs", "model": digest(model), "model_step": model.step, "data": model.data}
            state |= {name: module.state_dict() for name, module in movers.items()}
            state |= {f"{name}_adam": optimizer.state_dict() for name, optimizer in optimizers.items()}
            _write(path, state | {"step": step, "rng": rng.get_state()})
            pace = (step - first) / (time.perf_counter() - begun)
            mean, zeros = float(w.detach().mean()), float((w == 0).double().mean())
            print(
                f"latent_rs {step:,} of {steps:,}: mean w {mean:.3f}, {zeros:.1%} at 0, {pace:.0f} steps/s", flush=True
            )
    return weights


def _write(path: Path, state: dict[str, Any]) -> None:
    """`path` appears whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
        draft.unlink(missing_ok=True)
        raise UserError(f"the checkpoint {path} of latent_rs cannot be written: {error}") from None


def _read(path: Path, model: Model) -> dict[str, Any]:
    """The state in `path`, if it belongs to `model` and its data. Nothing stored in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:  # torch raises many others, whose text advises to load with the executing of code allowed
        raise UserError(f"{path} is not a checkpoint of latent_rs, or is damaged") from None
    if not isinstance(state, dict) or state.get("kind") != "latent_rs":
        raise UserError(f"{path} is not a checkpoint of latent_rs")
    if (state["model_step"], state["model"]) != (model.step, digest(model)):
        raise UserError(
            f"{path} was trained for another model: its model has {state['model_step']} steps and SHA-256 "
            f"{state['model'][:12]}, this one {model.step} and {digest(model)[:12]}; give another file, or remove it"
        )
    if (data := state.get("data", "not recorded")) != model.data:  # files of earlier versions do not say
        raise UserError(
            f"{path} was trained on other data than the model: SHA-256 {data[:12]}, not {model.data[:12]}; give "
            "another file, or remove it"
        )
    return state
