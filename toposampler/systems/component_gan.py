"""Component GAN: a generator for each component of the data, fitted in closed form, then trained. This project's own.

It unites the two papers of this package. The topology of the data says how many generators there are, where in
TopoSampler (Dey and Das 2020, `toposampler`) it shapes the latents; each generator has one connected component, as in
DMGAN (Khayatkhoei et al. 2018, `dmgan`). Nothing about the number, the places and the masses of components is learned
by gradients: a gap between components is long against the distances within them, so all three are measured.

| equation | here | logged term |
|---|---|---|
| components: gaps in the tree of mutual reachability distances | `topology.clusters`, `priors.partition` | |
| or, of images, communities of the graph of shared neighbors | `topology.communities`, `priors.communities` | |
| r(c) = N_c / N, the share of the data in component c | `prior` | `mass/c` |
| c ~ r(c), z ~ N(0, I), x = m_c + V_c S_c (q_c(z) + b_c f_c(z)) | `generate` | |
| m_c, V_c S_c^2 V_c': mean and covariance of component c | `priors.frames` | |
| q_c: quantiles of y = S_c^-1 V_c' (x - m_c), direction by direction | `priors.frames` | |
| of images: q_c a Gaussian mixture, x = g_c(m_c + V_c S_c q_c(z)) + b_c f_c(z) | `priors.image_frames` | |
| f_c: a network, 0 at first | `build_network` | |
| b_c: 0 where q_c(z) is like samples it was not fitted to, else 1 | `priors.held_out` | |
| the critic sees y, in the coordinates of its component, and c: D(y, c) | `seen` | |
| critic: E softplus(D(fake) - D(real)) + gamma / 2 (R1 + R2) | `critic_loss` | `critic/pairs`, `/r1`, `/r2` |
| generators: E softplus(D(real) - D(fake)) | `generator_loss` | `generator/adversarial` |

At the first step the model is a mixture of principal component analyses (Tipping and Bishop 1999), of which Richardson
and Weiss 2018 (arXiv 1805.12462) show that they cover data better than GANs do, with the data's own marginals along the
axes (one iteration of rotation-based Gaussianization, Laparra, Camps-Valls, Malo 2011, arXiv 1602.00229). Components of
images are themselves such mixtures, mapped to by one continuous generator (`priors.rearrangement`). A game then
trains those that are not like data they were not fitted to. Near its equilibrium the game is noise, which would move
the others off the data; where no component needs it nothing is trained. It is R3GAN's (`losses.relativistic`), or
`dmgan`'s with `adversarial: wasserstein`. A pair of a real and a generated sample is of one component, and the critic
is given which, as in self-conditioned GANs (Liu, Wang, Bau, Zhu, Torralba 2020, arXiv 2006.10728). As p(x) = sum_c r(c)
p(x|c) for any partition of the data, the weights need no learning: r(c) is the share of part c, known as well as N
draws tell it.

Points without a gap are one component, and this is a GAN with one generator. Images without a gap are cut into the
communities of their neighbor graph (`topology.communities`), where there are more than by chance. The result says so,
and how sure the number is, with an interval for each mass.

Deviations
----------
- `n_generators` asks for another number: then the longest gaps alone count, communities are joined, or the widest parts
  are cut by k-means.
- Images, and points of more than 256 dimensions, are scored as they are, images with c as constant maps, and f_c adds
  to x instead of y: a convolution needs pixels in their order. g_c maps the intensities of a component's start to those
  of its pixels.
- Points have as many latents as dimensions at least, so that q_c(z) fills all directions; images as many as the
  principal axes that hold `start_variance` of the variance within components.
- `fitted_start: false`, of images: x = f_c(z), from the networks' own start, without m_c, V_c and q_c. With R3GAN's
  networks and constants this is R3GAN given the component. With either start generators are separate networks or, with
  `shared_trunk`, one network behind a first layer each.
- The critic of a single component is not given which. So with one component and `fitted_start: false` this is `r3gan`,
  to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from toposampler.config import OptimizerConfig
from toposampler.data.base import Dataset
from toposampler.errors import UserError
from toposampler.keys import may
from toposampler.losses.reduction import Terms
from toposampler.nn.critic import Critic
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, Shard
from toposampler.priors import held_out
from toposampler.priors.frames import Frames
from toposampler.priors.image_frames import ImageFrames, axes_that_hold
from toposampler.priors.latent import LatentConfig
from toposampler.priors.mixture import draw_generators
from toposampler.priors.partition import PartitionConfig, find_partition
from toposampler.priors.streams import Source
from toposampler.systems import game
from toposampler.systems.base import Move, Prepared, SeparateGeneratorsConfig, System
from toposampler.systems.batch import Batch, Noise
from toposampler.systems.game import GameConfig, PenaltyConfig

SPAN = 2.0
"""of what f_c adds to an image: its tanh reaches to 1, and pixels are up to 2 apart"""
MOST_AXES = 256
"""most dimensions of points that are scored in the coordinates of their component"""


class ComponentGANConfig(GameConfig, SeparateGeneratorsConfig):
    """Component GAN (this project's): a generator for each component that is found in the data."""

    name: Literal["component_gan"] = "component_gan"
    n_generators: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(  # type: ignore[assignment]
        "auto", json_schema_extra=may(search={"int": [2, 20]})
    )
    """K, the number of generators; auto: as many as the data have components"""
    partition: PartitionConfig = PartitionConfig()
    floor: float = Field(0.1, gt=0, le=1)
    """least scale of a component in a direction, over its largest: what has less width is flat"""
    iterations: int = Field(48, ge=1, le=1000)
    """most iterations of the Gaussianization that fits latents to a component of few dimensions; 1: axis by axis"""
    start_normals: int = Field(24, ge=0, le=1000)
    """of images: most normals in the mixture that a component's start is fitted by; 0: none, but Gaussianization"""
    start_variance: float = Field(0.9, gt=0, lt=1)
    """of images that start as mixtures: the share of the variance within components that latents are enough for"""
    fitted_start: bool = True
    """true: generators start as the principal component analysis of their component, and their networks add to it;
    false, of images only: samples are the networks' alone, from the start that is theirs (R3GAN's recipe)"""
    adversarial: Literal["wasserstein", "relativistic"] = "relativistic"
    penalty: PenaltyConfig = PenaltyConfig(weight=0.1)
    game: Literal["auto", "always", "never"] = "auto"
    """which components are trained: auto, of points, those whose start differs from held-out samples by more than
    tolerance, and those too small to tell; always, and of images in any case: all; never: none, nothing is trained"""
    tolerance: float = Field(0.05, ge=0, le=1)
    """of game auto: largest triangular discrimination of a start and held-out samples, of which 1 is disjoint"""
    latent: LatentConfig = LatentConfig(kind="normal")
    generator: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.0, 0.9))

    @model_validator(mode="after")
    def _the_critic_is_given_the_component(self) -> Self:
        if self.penalty.gradient != "exact":
            raise ValueError(
                f"penalty.gradient {self.penalty.gradient} is not for component_gan, whose critic is also given the "
                "component"
            )
        return self

    @model_validator(mode="after")
    def _some_start_is_there(self) -> Self:
        if self.game == "never" and not self.fitted_start:
            raise ValueError("game never keeps the fitted start, and fitted_start is false: right would be game always")
        return self

    @property
    def asks_the_data(self) -> bool:
        """See `SystemConfig.asks_the_data`."""
        return self.n_generators == "auto"

    @property
    def K(self) -> int:
        """The number of generators; 1 until `prepare` has counted the components."""
        return 1 if self.n_generators == "auto" else self.n_generators

    def check_data(self, dataset: Dataset) -> None:
        """See `SystemConfig.check_data`: the critic scores points from where they start."""
        if len(dataset.shape) == 1 and not self.fitted_start:
            raise UserError(
                f"system.fitted_start false is for images, and these samples have the shape {dataset.shape}: "
                "right would be true, the default"
            )

    def prepare(self, dataset: Dataset) -> Prepared:
        """Find the components of the data, and where each generator starts; see `SystemConfig.prepare`."""
        number = None if self.n_generators == "auto" else self.n_generators
        if bad := int((~torch.isfinite(dataset.x.flatten(1)).all(dim=1)).sum()):
            raise UserError(f"{bad} of {len(dataset.x)} samples have NaN or infinite values: leave them out")
        try:
            partition = find_partition(dataset.x, self.partition, number)
        except ValueError as error:
            raise UserError(f"system.n_generators {number} is too many: {error}") from None
        masses = {"masses": partition.masses}
        decided: dict[str, Any] = {"n_generators": len(partition.masses)}
        if not self.fitted_start:
            decided["game"] = "always"
            return Prepared(self, decided, partition.labels, masses, partition.report())
        D, dim = math.prod(dataset.shape), self.latent.dim
        if is_whitened(dataset.shape):
            dim = max(dim, D)
        elif has_mixtures(self, dataset.shape):
            dim = max(dim, axes_that_hold(self.start_variance, dataset.x.flatten(1), partition.labels))
        R = D if is_whitened(dataset.shape) else min(dim, D)
        frames: Frames
        if has_mixtures(self, dataset.shape):
            seed = self.partition.seed
            frames = ImageFrames.of_images(dataset.x, partition.labels, R, self.floor, self.start_normals, seed)
        else:
            frames = Frames.of(dataset.x.flatten(1), partition.labels, R, self.floor, self.iterations)
        start = {f"frames.{name}": x for name, x in frames.state_dict().items()} | masses
        decided |= {"latent.dim": dim, "iterations": frames.iterations}
        report = partition.report()
        if isinstance(frames, ImageFrames):
            decided["start_normals"] = frames.normals
            untrained = "; kept as it is, as game is never" if self.game == "never" else ""
            report["in_words"].insert(2, f"start    {frames.in_words()}{untrained}")
        trained = torch.full((len(partition.masses),), float(self.game != "never"))
        if self.game == "auto":
            if is_whitened(dataset.shape):
                arguments = (R, self.floor, self.iterations, self.tolerance)
                found = held_out.compare(dataset.x.flatten(1), partition.labels, *arguments)
                trained = found.insufficient.float()
                report["in_words"].insert(2, found.in_words())
                report["start_against_held_out"] = [None if math.isnan(d) else d for d in found.delta.tolist()]
            decided["game"] = "always" if trained.all() else "auto" if trained.any() else "never"
        return Prepared(self, decided, partition.labels, start | {"trained": trained}, report)

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> ComponentGAN:
        """See `SystemConfig.build`."""
        return ComponentGAN(self, shape, networks, shard)


def is_whitened(shape: tuple[int, ...]) -> bool:
    """Whether the critic sees samples of `shape` in the coordinates of their component: points of few dimensions."""
    return len(shape) == 1 and shape[0] <= MOST_AXES


def has_mixtures(config: ComponentGANConfig, shape: tuple[int, ...]) -> bool:
    """Whether samples of `shape` start as a Gaussian mixture in each component: images, unless `config` wants none."""
    return len(shape) == 3 and config.start_normals > 0


class ConditionalCritic(Critic):
    """A critic of samples with columns, or maps, that say which component; its gradient is by the sample alone."""

    def __init__(self, trunk: nn.Module, n_features: int, n_columns: int) -> None:
        super().__init__(trunk, n_features)
        self.n_columns = n_columns

    def scores_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Critic.scores_and_gradient`."""
        scores, gradient = super().scores_and_gradient(x)
        return scores, gradient[:, : self.n_columns]

    def input_gradient(self, x: Tensor) -> Tensor:
        """See `Critic.input_gradient`."""
        return super().input_gradient(x)[:, : self.n_columns]


class ComponentGAN(System):
    """K generators, which start as the probabilistic PCA of a component each, and a critic that is given which."""

    uses_labels = True
    scores_samples = False
    config: ComponentGANConfig

    def __init__(
        self,
        config: ComponentGANConfig,
        shape: tuple[int, ...],
        networks: Networks | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        super().__init__(config, shape, networks, shard)
        D, self.is_whitened = math.prod(shape), is_whitened(shape)
        if config.fitted_start:
            R = D if self.is_whitened else min(D, self.latent.dim)
            self.frames = (
                ImageFrames(self.K, shape, R, config.start_normals)
                if has_mixtures(config, shape)
                else Frames(self.K, D, R, config.iterations)
            )
        self.register_buffer("masses", torch.full((self.K,), 1 / self.K))
        self.masses: Tensor
        self.register_buffer("trained", torch.ones(self.K))
        self.trained: Tensor
        """(K,): 1 where a component is trained, 0 where its start is kept"""

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """See `nn.Module`. Before `game` there was, all components were trained."""
        state.setdefault(f"{prefix}trained", torch.ones(self.K))
        super()._load_from_state_dict(state, prefix, *rest)

    def build_network(self, shape: tuple[int, ...], n_inputs: int, n_networks: int = 1) -> nn.Module:
        """f_c: a generator network, whose last layer starts at 0 with `fitted_start`; of points each has a single
        generator's width."""
        return self._zeroed(super().build_network(shape, n_inputs, 1 if len(shape) == 1 else n_networks))

    def build_generators(self, shape: tuple[int, ...]) -> nn.Module:
        """See `System.build_generators`; a trunk that generators share ends like a network of theirs."""
        generators = super().build_generators(shape)
        return self._zeroed(generators) if self.config.shared_trunk else generators

    def _zeroed(self, network: nn.Module) -> nn.Module:
        """`network`, its last layer set to 0 where samples start on the data."""
        layers = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
        if layers and self.config.fitted_start:
            nn.init.zeros_(layers[-1].weight)
            if layers[-1].bias is not None:
                nn.init.zeros_(layers[-1].bias)
        return network

    def build_critic(self, shape: tuple[int, ...]) -> Critic:
        """D(y, c); of one component D(y)."""
        try:
            trunk = self.build_trunk((shape[0] + self.n_codes, *shape[1:]))
        except UserError as error:
            if not self.n_codes or not isinstance(self.networks.critic, nn.Module):
                raise
            beside = f"{self.n_codes} {'columns' if len(shape) == 1 else 'maps'}"
            raise UserError(
                f"{error}; component_gan's critic is also given the component, as {beside} beside the sample's "
                f"{shape[0]}: a function (shape) to a module fits any number"
            ) from None
        return ConditionalCritic(*trunk, shape[0])

    @property
    def n_codes(self) -> int:
        """The columns, or maps, that tell the critic the component: none where there is one."""
        return self.K if self.K > 1 else 0

    def prior(self) -> Tensor:
        """r(c): (K,)."""
        return self.masses

    @property
    def least_active(self) -> float:
        """0: r(c) is a counted share, and Wilson's interval of every one that is not 0 leaves 0 out."""
        return 0.0

    def schedule(self, step: int, critic_steps: int) -> list[Move]:
        """See `System.schedule`: none moves where the start of every component is kept."""
        return [] if self.config.game == "never" else super().schedule(step, critic_steps)

    def condition(self, noise: Noise, labels: Tensor) -> Noise:
        """A generated sample is of the component of the real one beside it; see `System.condition`."""
        noise = noise | {"c": labels.cpu()}
        if not self.config.fitted_start:
            return noise
        z, radii = noise["z"].flatten(0, 1), self.frames.has_radii()
        return noise | {"start": self.filled(z, labels.flatten(), radii).unflatten(0, labels.shape)}

    def filled(self, z: Tensor, c: Tensor, radii: bool = True) -> Tensor:
        """q_c(z): latents (n, d) to coordinates (n, R) in the components c (n,); of fewer latents than R the rest 0.
        `radii` is as of `Frames.fill`."""
        R = self.frames.scales.shape[1]
        return self.frames.fill(F.pad(z, (0, max(0, R - z.shape[1])))[:, :R], c, radii)

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """c ~ r(c): (batches, n)."""
        return draw_generators(self.masses, (batches, n), "systematic", rng)

    def generate(self, noise: Noise) -> Tensor:
        """x = m_c + V_c S_c (q_c(z) + b_c f_c(z)), or f_c(z): (n, *shape)."""
        c = noise["c"].to(noise["z"].device, non_blocking=True)
        if self.is_whitened:
            return self.frames.color(self._coordinates(noise, c), c)
        if not self.config.fitted_start:
            return self._change(noise, c)
        change, start = self._change(noise, c), self._start(noise, c)
        stretch = SPAN if change.dim() > 2 else self.frames.scales[c, :1]
        return self.frames.color(start, c).unflatten(1, change.shape[1:]) + stretch * change

    def _coordinates(self, noise: Noise, c: Tensor) -> Tensor:
        """y = q_c(z) + b_c f_c(z) of points: (n, D)."""
        return self._start(noise, c) + self._change(noise, c)

    def _start(self, noise: Noise, c: Tensor) -> Tensor:
        """q_c(z): (n, R), as `condition` has made it, or made here."""
        return noise["start"] if "start" in noise else self.filled(noise["z"], c)

    def _change(self, noise: Noise, c: Tensor) -> Tensor:
        """b_c f_c(z): (n, *shape)."""
        change: Tensor = self.generators(noise["z"], noise["c"])
        if self.config.game == "always":  # then b_c is 1 for all c
            return change
        return self.trained[c].view(-1, *(1,) * (change.dim() - 1)) * change

    def seen(self, x: Tensor, c: Tensor) -> Tensor:
        """What the critic is given of x (n, *shape) of components c (n,): y beside the one-hot c, or maps of it."""
        c = c.to(x.device, non_blocking=True)
        return self._beside_code(self.frames.whiten(x, c) if self.is_whitened else x, c)

    def _beside_code(self, y: Tensor, c: Tensor) -> Tensor:
        """y (n, *shape) with the one-hot components c (n,) as further columns, or maps; of one component y."""
        if not self.n_codes:
            return y
        code = (c[:, None] == torch.arange(self.K, device=y.device)).to(y.dtype)
        return torch.cat([y, code.view(len(y), self.K, *(1,) * (y.dim() - 2)).expand(-1, -1, *y.shape[2:])], dim=1)

    def score_noise(self, noise: Noise) -> Tensor:
        """See `System.score_noise`."""
        if not self.is_whitened:
            return self.critic(self.seen(self.generate(noise), noise["c"]))
        c = noise["c"].to(noise["z"].device, non_blocking=True)
        return self.critic(self._beside_code(self._coordinates(noise, c), c))  # as V_c is a rotation

    def critic_loss(self, batch: Batch) -> Terms:
        """E softplus(D(fake) - D(real)) with R1 and R2, or the Wasserstein critic's terms."""
        assert batch.labels is not None
        both, labels = torch.cat([batch.real, batch.fakes()]), torch.cat([batch.labels, batch.labels])
        return game.critic_terms(self.critic, batch, self.config, self.seen(both, labels))

    def generator_loss(self, batch: Batch) -> Terms:
        """E softplus(D(real) - D(fake)), or -E D(fake)."""
        assert batch.labels is not None
        scores = self.score_noise(batch.noise)
        seen = replace(batch, real=self.seen(batch.real, batch.labels))
        return {"adversarial": batch.expectation(game.generator_losses(self.critic, scores, seen, self.config))}
