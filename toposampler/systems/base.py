"""The contract of a system: players, one loss each, and how to sample.

A system knows nothing of stepping, devices, precision, gradient averaging, averages of weights, logging or
checkpoints: the loop (`toposampler.training.loop`) does all that for every system alike.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from toposampler.config import OptimizerConfig, Section, flatten, merge_overrides, validate
from toposampler.data.base import Dataset
from toposampler.keys import may, may_branch
from toposampler.losses.reduction import Terms
from toposampler.metrics.masses import least_active
from toposampler.nn.critic import Critic
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import WHOLE, GeneratorEnsemble, Shard
from toposampler.nn.families import FAMILIES
from toposampler.nn.networks import Network
from toposampler.priors.latent import LatentConfig
from toposampler.priors.streams import Source, normal, of_runs, uniform
from toposampler.systems.batch import Batch, Noise
from toposampler.systems.building import GeneratorNorm, initialized, make_generator, make_trunk, shared_generators
from toposampler.systems.burn_in import BurnInConfig


@dataclass(frozen=True)
class Player:
    """One side of the game: modules that descend one loss together, each with an optimizer of its own."""

    modules: Mapping[str, nn.Module]
    """what this player trains, by the name of the `System` attribute that holds it"""
    optimizers: Mapping[str, OptimizerConfig]
    """how, by the same names"""
    loss: Callable[[Batch], Terms]
    """scalar terms by name; their sum is descended, each is logged as `player/term`"""

    def joined_by(self, modules: Mapping[str, nn.Module], optimizer: OptimizerConfig) -> Player:
        """This player with `modules` too, each stepped as `optimizer` says."""
        return Player({**self.modules, **modules}, {**self.optimizers, **dict.fromkeys(modules, optimizer)}, self.loss)


@dataclass(frozen=True)
class Move:
    """One optimizer step of a player within an iteration."""

    player: str
    """its name in `System.players`"""
    batch: int
    """which of the iteration's batches: moves on one batch have the same real samples, noise and fakes"""


def batches_of(player: str, moves: Iterable[Move]) -> list[int]:
    """The batches that a player moves on, ascending."""
    return sorted({move.batch for move in moves if move.player == player})


@dataclass(frozen=True)
class Prepared:
    """A system's section, and what it takes from the data before it is built: `SystemConfig.prepare`."""

    asked: SystemConfig
    """the section as it is configured"""
    decided: Mapping[str, Any] = field(default_factory=dict)
    """dotted keys of the section that the data decide, with their values; kept in checkpoints and models"""
    labels: Tensor | None = None
    """(N,) int64: what the system's losses get as the labels of the data"""
    start: Mapping[str, Tensor] = field(default_factory=dict)
    """buffers that start at these values, by their names in the system"""
    report: Mapping[str, Any] | None = None
    """what was found in the data, as JSON: for the run's result"""
    begin: Callable[[System], None] | None = None
    """what gives a system, as it is built, the parameters that it starts with"""

    @property
    def config(self) -> SystemConfig:
        """The section with what the data decide."""
        return validate(type(self.asked), merge_overrides(self.asked.model_dump(mode="json"), self.decided))

    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> System:
        """As `SystemConfig.build`, of `config`, from `start`."""
        system = self.config.build(shape, networks, shard)
        with torch.no_grad():
            for name, x in self.start.items():
                system.get_buffer(name).copy_(x)
        if self.begin is not None:
            self.begin(system)
        return system

    def digest(self) -> str:
        """SHA-256 of all that the data decided: alike on all workers, and when a run is resumed."""
        sha = hashlib.sha256(repr(sorted(self.decided.items())).encode())
        if self.labels is not None:
            sha.update(self.labels.numpy().data)
        return sha.hexdigest()


class SystemConfig(BurnInConfig):
    """Base of every system's section: `name` picks the system, `build()` makes the system."""

    name: str = Field(json_schema_extra=may(search=False))
    """which system"""
    latent: LatentConfig = LatentConfig()
    generator_width: int | None = Field(None, ge=1, le=65_536)
    """width of the generators' last hidden layer; default: the DMGAN paper's for the data's shape and K, of mlp and
    resnet 64"""
    critic_width: int | None = Field(None, ge=1, le=65_536)
    """width of the critic's first hidden layer; default: the DMGAN paper's, 64 for points and 32 for images, of mlp and
    resnet 64"""
    generator_depth: int | None = Field(None, ge=1, le=1000)
    """hidden layers of a generator of the family mlp, residual blocks a stage of resnet; default: 2; others: refused"""
    critic_depth: int | None = Field(None, ge=1, le=1000)
    """as generator_depth, of the critic"""
    generator_network: str = Field("default", min_length=1, max_length=255)
    """the generators' network: default, the name of a family, or module:function of your own, called with (shape,
    latent_dim)"""
    critic_network: str = Field("default", min_length=1, max_length=255)
    """the critic's trunk, samples to features: default, the name of a family, or module:function of your own, called
    with (shape)"""
    generator_norm: GeneratorNorm = "none"
    """layer: each sample's hidden maps in an image generator are normalized, where papers have batch norm, which would
    mix samples; without it a generator under a logistic loss may go black for good (MNIST). Points: unused. The family
    resnet has none, nor has mlp"""
    generator_output: Literal["tanh", "linear"] | None = None
    """how images leave generators of the family resnet: tanh: within (-1, 1); linear: without a bound, as R3GAN's;
    default: tanh; of other families: refused"""
    initialization: Literal["torch", "xavier"] = "torch"
    """torch: the layers' own, with biases that spread a critic's kinks over the data; xavier: TensorFlow's, without"""
    generator: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, betas=(0.0, 0.9))
    critic: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, betas=(0.0, 0.9))

    @model_validator(mode="before")
    @classmethod
    def _labels_are_of_logistic_games(cls, content: Any) -> Any:
        """Labels are keys of a section `adversarial`; of other games the key names the game, or is not there."""
        given = content.get("adversarial") if isinstance(content, Mapping) else None
        field = cls.model_fields.get("adversarial")
        if isinstance(given, Mapping) and (field is None or not isinstance(field.default, Section)):
            raise ValueError(
                f"adversarial.{next(iter(given), 'label_noise')}: the critic of {cls.model_fields['name'].default} has "
                "no labels; systems with a logistic game have: bigan, deligan, infogan, mdgan, mgan, pacgan, veegan"
            )
        return content

    @property
    def K(self) -> int:
        """The number of generators."""
        return 1

    @property
    def asks_the_data(self) -> bool:
        """Whether K is decided by the data (`prepare`), so that `K` says nothing yet."""
        return False

    @property
    def has_ensemble(self) -> bool:
        """Whether every generator is a network of its own, so that workers can hold some of them each."""
        return False

    @property
    def masks_generators(self) -> bool:
        """Whether runs with other `n_generators`, of which this holds too, can be trained with it as one program: see
        `EnsembleConfig.masked`."""
        return False

    @property
    def couples_samples(self) -> bool:
        """Whether a sample's terms depend on the others of its batch, so that workers cannot share a batch."""
        return False

    @property
    def pack_size(self) -> int:
        """The samples that the critic scores together: every worker's share of a batch is a multiple of it."""
        return 1

    @property
    def n_directions(self) -> int:
        """How many random directions in the space of samples the losses take for each row of a batch."""
        return 0

    @property
    def label_noise(self) -> float:
        """The probability with which the critic's label of a sample is exchanged: of logistic games (`labels.py`)."""
        return 0.0

    @property
    def least_batch(self) -> int:
        """The least global batch on which every loss is defined."""
        return 2

    def check_data(self, dataset: Dataset) -> None:
        """Raise UserError if this system cannot be trained on `dataset`."""

    def prepare(self, dataset: Dataset) -> Prepared:
        """What this system takes from `dataset` before it is built: nothing but the labels, unless a system says more.

        It follows from the data and this section alone. Raises UserError if the data do not allow what is asked.
        """
        return Prepared(self, labels=dataset.labels)

    def constants(self, step: int, total_steps: int) -> dict[str, float]:
        """The numbers that the losses take after `step` of `total_steps` generator steps, by their dotted keys.

        They may differ between the runs of a population: all keys of floating point that a run may branch with. A
        system whose losses take another number at another step overrides this.
        """
        return dict(self._constants)

    def rhythm(self, step: int) -> Hashable:
        """What decides which operations the losses make after `step` generator steps, beside `System.schedule`: steps
        of equal rhythm differ in their `constants` alone."""
        return None

    def left_out(self) -> frozenset[str]:
        """The keys that are 0, and whose terms are then not computed at all."""
        return frozenset()

    @cached_property
    def _constants(self) -> dict[str, float]:
        numbers = flatten(self.model_dump())
        return {key: value for key, value in numbers.items() if isinstance(value, float) and may_branch(self, key)}

    @abstractmethod
    def build(self, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE) -> System:
        """A freshly initialized system for samples of `shape`, drawing on torch's global random state.

        `networks` are the caller's own, in place of those that the configuration names; `shard` is the part of the
        generators that it holds.
        """


class EnsembleConfig(SystemConfig):
    """The keys of a system with K generators."""

    n_generators: int = Field(10, ge=1, le=10_000, json_schema_extra=may(search={"int": [2, 20]}))
    """K, the number of generators"""

    masked: ClassVar[bool] = False
    """whether runs of this very class with different K can be members of one population. Then nothing but
    `Batch.constant("n_generators", K)` tells its losses K, they do not change if a generator is added that is never
    drawn and has probability 0, and `System.logits` names the logits. Not inherited: each system has to state it"""

    @property
    def K(self) -> int:
        """The number of generators."""
        return self.n_generators

    @property
    def masks_generators(self) -> bool:
        """See `SystemConfig.masks_generators`. A single generator has a network of another size, and draws nothing."""
        return self.K > 1 and bool(vars(type(self)).get("masked"))

    def constants(self, step: int, total_steps: int) -> dict[str, float]:
        """See `SystemConfig.constants`: with K, where it may differ."""
        numbers = super().constants(step, total_steps)
        return numbers | {"n_generators": float(self.K)} if self.masks_generators else numbers


class SeparateGeneratorsConfig(EnsembleConfig):
    """The keys of a system whose K generators are a network each, or one network behind K first layers."""

    shared_trunk: bool = False
    """true: the generators have all layers but the first in common, those of one generator of full width; of the
    family resnet each begins with learned maps, of default, conv and mlp with a linear layer"""

    @model_validator(mode="after")
    def _trunks_are_the_packages(self) -> Self:
        if self.shared_trunk and self.generator_network not in FAMILIES:
            raise ValueError(
                f"shared_trunk true needs a generator_network of the package, {', '.join(FAMILIES)}, and it is "
                f"{self.generator_network}"
            )
        return self

    @property
    def has_ensemble(self) -> bool:
        """See `SystemConfig.has_ensemble`."""
        return not self.shared_trunk


class System(nn.Module, ABC):
    """Base of every system: generators {G_c} on one latent z against a critic D. Systems add losses and players."""

    config: SystemConfig
    averaged: tuple[str, ...] = ("generators",)
    """modules of the player `generator` whose moving average samples are drawn from, by their names in it"""
    uses_labels: bool = False
    """whether losses are given the labels of the data, as `Batch.labels`"""
    augments: bool = True
    """whether its images may be augmented in training: all that it generates comes from `generate`"""
    scores_samples: bool = True
    """whether the critic's input is one sample: others can then be scored by it, whatever made them"""

    capturable: bool = True
    """whether an iteration can be captured and replayed: its losses take every number that depends on the step from
    `Batch.constant`, and branch by the step as `SystemConfig.rhythm` says. Other packages have to state it"""
    counters: tuple[str, ...] = ()
    """buffers that count steps: a run that begins with a model's weights counts its own"""
    logits: tuple[str, ...] = ()
    """parameters with an entry for each generator that a softmax is taken of, or that is added to what it is taken of;
    by their names"""

    def __init__(
        self, config: SystemConfig, shape: tuple[int, ...], networks: Networks | None = None, shard: Shard = WHOLE
    ) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.networks = networks or Networks()
        self.shard = shard
        self.K = config.K
        self.latent = config.latent
        self._checked = False
        self.generators = self.build_generators(shape)
        self.critic = self.initialized(self.build_critic(shape))

    def initialized(self, network: Network) -> Network:
        """`network` with the weights that the configuration asks for at the start."""
        return initialized(self.config, network)

    def build_generators(self, shape: tuple[int, ...]) -> nn.Module:
        """{G_c}: a module that maps latents (n, latent.dim) and generator ids (n,) to samples (n, *shape)."""
        if isinstance(self.config, SeparateGeneratorsConfig) and self.config.shared_trunk:
            return shared_generators(self.config, self.networks.generator, shape, self.latent.dim, self.K)
        return GeneratorEnsemble(lambda: self.build_network(shape, self.latent.dim, self.K), self.K, self.shard)

    def build_network(self, shape: tuple[int, ...], n_inputs: int, n_networks: int = 1) -> nn.Module:
        """A generator network, (n, n_inputs) to (n, *shape): the caller's own, or the one that `generator_network`
        names, by default of the width of one among `n_networks`."""
        own, checked = self.networks.generator, self._checked
        self._checked = True
        return make_generator(self.config, own, shape, n_inputs, n_networks, checked)

    def build_trunk(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """A critic's trunk, samples (n, *shape) to features (n, f), and f: the caller's own, or the one that
        `critic_network` names."""
        return make_trunk(self.config, self.networks.critic, shape)

    def build_critic(self, shape: tuple[int, ...]) -> Critic:
        """D: a critic of samples, or of what `score_noise` gives it."""
        return Critic(*self.build_trunk(shape))

    def players(self) -> dict[str, Player]:
        """The players in the order they move; the first is the critic, which moves `critic_steps` times."""
        return {
            "critic": Player({"critic": self.critic}, {"critic": self.config.critic}, self.critic_loss),
            "generator": Player(
                {"generators": self.generators}, {"generators": self.config.generator}, self.generator_loss
            ),
        }

    @cached_property
    def _player_names(self) -> tuple[str, ...]:
        return tuple(self.players())

    def schedule(self, step: int, critic_steps: int) -> list[Move]:
        """Who moves when in the iteration after `step` generator steps, in this order; batches count from 0.

        By default the critic takes `critic_steps` steps, each on a batch of its own, then every other player takes one,
        all on one more batch. A system may declare another schedule; every worker must get the same. Where it is empty
        nothing is drawn and no player moves.
        """
        critic, *others = self._player_names
        moves = [Move(critic, batch) for batch in range(critic_steps)]
        return moves + [Move(player, critic_steps) for player in others]

    @abstractmethod
    def critic_loss(self, batch: Batch) -> Terms:
        """The terms that the player `critic` descends."""

    @abstractmethod
    def generator_loss(self, batch: Batch) -> Terms:
        """The terms that the player `generator` descends."""

    def draw(self, batches: int, n: int, rng: Source, training: bool = False) -> Noise:
        """All that is random in `batches` steps on n samples: tensors (batches, n, ...) by name.

        Latents `z` (..., d), generator ids `c`, the places `epsilon` in [0, 1] of the gradient penalty, and, where c is
        not drawn from r(c), which only training may do, the `weight` of every sample. The ids are on the CPU, as they
        steer the work; all else is on the device. Where losses take some, `direction` is (..., m, *shape), standard
        normal, and `exchanged` (..., 2) bool, whether the real and the generated sample's labels are: in training only.
        Of P runs that draw together all are (P, batches, n, ...); parameters are then (P, ...) too.
        """
        dtype = next(self.parameters()).dtype
        directions: Noise = {}
        if training and (share := self.config.label_noise):
            directions["exchanged"] = uniform((batches, n, 2), rng, torch.float32) < share
        if training and (m := self.config.n_directions):
            directions["direction"] = normal((batches, n, m, *self.shape), rng, dtype)
        return directions | {
            "z": self.latent.draw((batches, n), rng, dtype),
            "c": self.draw_generators(batches, n, rng, training),
            "epsilon": uniform((batches, n), rng, dtype),
        }

    def condition(self, noise: Noise, labels: Tensor) -> Noise:
        """`noise` of an iteration's global batches, tensors (batches, n, ...), given the labels (batches, n) int64 of
        their real samples: called in training of a system that `uses_labels`. Here `noise` as it is."""
        return noise

    def draw_generators(self, batches: int, n: int, rng: Source, training: bool) -> Tensor:
        """Generator ids (batches, n) int64 on the CPU, c ~ r(c); see `draw`. All 0 for a single generator."""
        return torch.zeros(of_runs((batches, n), rng), dtype=torch.long)

    def latents(self, noise: Noise) -> Tensor:
        """What the generators are given: (n, d) from one batch of noise."""
        return noise["z"]

    def generate(self, noise: Noise) -> Tensor:
        """x = G_c(z): samples (n, *shape) from one batch of noise, tensors (n, ...)."""
        return self.generators(noise["z"], noise["c"])

    def score_noise(self, noise: Noise) -> Tensor:
        """The critic's scores (n,) of the samples made from one batch of noise, tensors (n, ...): high for real."""
        return self.critic(self.generate(noise))

    def latent_terms(self, batch: Batch, losses: Tensor) -> Terms:
        """Terms of what comes before the generators, given the adversarial loss (n,) of each sample; none where z is
        drawn from a fixed distribution."""
        return {}

    def prior(self) -> Tensor | None:
        """r(c), the probabilities (K,) of the generators; None for a single generator."""
        return None

    @property
    def masked_draws(self) -> bool:
        """Whether it draws the same where it has the parameters of more generators, of which r(c) is 0."""
        return False

    @property
    def least_active(self) -> float:
        """The share of r(c) above which a generator counts as active: a learned prior leaves some to those it drops."""
        return least_active(self.K)

    def encode(self, x: Tensor) -> Tensor | None:
        """The encoder's probabilities q(c|x), (n, K), for x (n, *shape); None where there is no encoder."""
        return None
