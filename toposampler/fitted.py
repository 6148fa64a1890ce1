"""What `toposampler.fit` returns: a model to sample from, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from toposampler.training.model import Model

Form = Literal["numpy", "pandas", "arrow"]
NAMED = 10
"""most generators whose masses the text names"""


@dataclass(frozen=True, repr=False)
class Fitted:
    """A trained model of the data that were given."""

    path: Path
    """the run's folder, which `toposampler.load` and the commands take"""
    model: Model
    result: Mapping[str, Any]
    """the content of the run's result.json"""
    about: str
    """the data in words"""
    columns: tuple[str, ...] | None
    """names of the columns of the table that was given"""
    form: Form
    """what `sample` returns"""

    @property
    def metrics(self) -> dict[str, float]:
        """How well samples match the data, by metric (docs/metrics.md). Distances are in the data's units."""
        return dict(self.result["metrics"])

    @property
    def prior(self) -> np.ndarray | None:
        """The probabilities (K,) of the generators; None for a system of a single one."""
        prior = self.result["prior"]
        return None if prior is None else np.array(prior)

    def sample(self, n: int, seed: int = 0, generator: int | None = None) -> Any:
        """`n` samples in the data's own units, the same for the same seed.

        A NumPy array (n, *shape); where the data were a pandas or Arrow table, such a table with the same columns, as
        floats. Images are (n, C, H, W) in [-1, 1], from black to white.

        Args:
            n: how many.
            seed: from 0 to 2^63 - 1.
            generator: the number of the one that makes them; None: all, as often as the prior says.

        Raises UserError for a number, a seed or a generator that there is not.
        """
        x = self.model.sample(n, seed, generator)[0].to("cpu", self.model.dtype).numpy()
        match self.form:
            case "pandas":
                import pandas  # here, as core installations lack it

                return pandas.DataFrame(x, columns=list(self.columns or ()))
            case "arrow":
                import pyarrow  # as pandas

                return pyarrow.table(list(x.T), names=list(self.columns or ()))
            case _:
                return x

    def __repr__(self) -> str:
        result, metrics, prior = self.result, self.metrics, self.prior
        name, steps = self.model.config.system.name, result["generator_steps"]
        trained = f"{steps:,} generator steps" if self.model.system.schedule(0, 1) else "nothing to train"
        lines = [f"{name} fitted to {self.about}: {trained}, {result['seconds']:,.0f} s"]
        if prior is not None:
            order = np.argsort(-prior)[: result["active_generators"]].tolist()
            masses = ", ".join(f"{k}: {prior[k]:.1%}" for k in order[:NAMED])
            more = f" and {len(order) - NAMED} others" if len(order) > NAMED else ""
            lines.append(f"generators  {len(order)} of {len(prior)} active, with masses {masses}{more}")
        lines.append(
            f"samples     {metrics['off_support_nn99']:.1%} lie off the data (off_support_nn99; 1 % of data do)"
        )
        lines.append(f"coverage    {metrics['coverage_k5']:.1%} of the data have a sample near (coverage_k5)")
        if "coverage_k5_min" in metrics:
            least, error = metrics["coverage_k5_min"], metrics["mass_tv_nn1"]
            lines.append(f"components  the least covered to {least:.1%}; masses are {error:.3f} off (mass_tv_nn1)")
        if "verdict" in result:
            lines.insert(1, f"verdict     {result['verdict']}")
        lines += [f"warning     {warning}" for warning in result.get("warnings", [])]
        found = result.get("components", {}).get("in_words", [])
        lines += [f"{line[:9].rstrip():<12}{line[9:]}" for line in found]  # in the columns of the lines above
        report = self.path / "figures" / "report.html"
        lines += [f"report      {report}"] if report.exists() else []
        return "\n".join([*lines, f"folder      {self.path}"])
