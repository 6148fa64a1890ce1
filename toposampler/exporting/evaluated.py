"""The metrics of a model, with their intervals, from the file that `toposampler evaluate` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toposampler.errors import UserError
from toposampler.training.card import Measured, Value
from toposampler.training.model import Model


def measured_in(path: Path, model: Model) -> Measured:
    """What the evaluation.json at `path` says of `model`.

    The model in it is the one of the same name, seed and steps. Raises UserError if the file is none of
    `toposampler evaluate`, is of other data, or has no such model.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        data, protocol = content["data"]["sha256"], content["protocol"]
        rows = {row["name"]: row["metrics"] for row in content["rows"]}
        models = [(m["name"], m["step"], m["seed"]) for m in content["models"]]
        numbers = {key: int(protocol[key]) for key in ("samples", "draws", "seed")}
    except OSError as error:
        raise UserError(f"--evaluation {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"--evaluation {path} is no evaluation.json of `toposampler evaluate`") from None
    if data != model.data:
        raise UserError(f"--evaluation {path} is on data of SHA-256 {data}, and the model's have {model.data}")
    of_model = [name for name, step, seed in models if (step, seed) == (model.step, model.config.seed)]
    named = [name for name in of_model if len(of_model) == 1 or name == model.config.name]
    if len(named) != 1 or named[0] not in rows:
        there = ", ".join(f"{name} (seed {seed}, step {step})" for name, step, seed in models)
        raise UserError(
            f"--evaluation {path} has no row of {model.config.name} (seed {model.config.seed}, step {model.step}); it "
            f"has {there}"
        )
    return Measured({name: _value(found) for name, found in rows[named[0]].items()}, **numbers)


def _value(found: dict[str, Any]) -> Value:
    return Value(found["mean"], (found["low"], found["high"]) if "low" in found else None)
