"""The labels that the critic of a logistic game learns: 1 for real and 0 for generated samples, smoothed or with noise.

With labels t_i the critic descends E_real H(t, s(D)) + E_fake H(t, s(D)), H(t, p) = -t ln p - (1 - t) ln(1 - p), s the
logistic function. The generators' losses stay as they are.

| key | labels |
|---|---|
| `label_smoothing` a | real samples have 1 - a, generated ones 0: one-sided (Salimans et al. 2016, arXiv 1606.03498) |
| `label_noise` e | each label is exchanged with probability e: a real sample gets 0, a generated one 1 - a |

TopoSampler's slides (Dey and Das 2020) report that neither helps a generator of spectral norm 1.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from toposampler.config import Section
from toposampler.keys import may
from toposampler.losses import gan
from toposampler.losses.reduction import Terms
from toposampler.systems.base import SystemConfig
from toposampler.systems.batch import Batch


class LabelConfig(Section):
    """The labels of a logistic game's critic."""

    label_smoothing: float = Field(0.0, ge=0, lt=0.5, json_schema_extra=may(search={"choice": [0.0, 0.1]}))
    """a: the critic's label of a real sample is 1 - a"""
    label_noise: float = Field(0.0, ge=0, lt=0.5, json_schema_extra=may(search={"choice": [0.0, 0.1]}))
    """probability with which a sample has the label of the other kind, drawn anew in each step"""


class LogisticConfig(SystemConfig):
    """The keys of a system whose critic's score is the logit of "real"."""

    adversarial: LabelConfig = LabelConfig()

    @property
    def label_noise(self) -> float:
        """See `SystemConfig.label_noise`."""
        return self.adversarial.label_noise


def critic_terms(real: Tensor, fake: Tensor, batch: Batch, labels: LabelConfig) -> Terms:
    """`losses.gan.critic_terms` of the batch's scores, real (n,) and fake (n,), or of its packs', with these labels."""
    of_real = 1 - labels.label_smoothing
    if not labels.label_noise:
        smoothed = torch.full_like(real, of_real) if labels.label_smoothing else None
        return gan.critic_terms(real, fake, batch.weights, batch.fake_weights, smoothed)
    exchanged = batch.noise["exchanged"][: len(real)]  # of a pack that of its first sample
    real_labels, fake_labels = (torch.where(exchanged[:, i] != i, 0.0, of_real).to(real) for i in (0, 1))
    return gan.critic_terms(real, fake, batch.weights, batch.fake_weights, real_labels, fake_labels)
