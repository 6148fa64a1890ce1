"""Register a trained model on MLflow, and make it the champion if it beats the present one.

    toposampler promote MODEL --name NAME                   register it; it is the candidate
    toposampler promote MODEL --name NAME --alias champion  and champion, if it is better
    toposampler promote models:/NAME@candidate --alias champion
    toposampler promote --list [--name NAME]                what is registered

MODEL is a run folder (its newest checkpoint), a checkpoint file, a model directory, or what is
registered already: models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID. Candidate and
champion are evaluated anew on the same samples of the candidate's data, with a seed that no
training evaluates with. Exit codes: 0 done, whether it became the champion or not, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toposampler.commands.usage import add_networks, command, parser, shown_log
from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.tracking.aliases import CANDIDATE, CHAMPION


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    line = parser(__doc__, "promote")
    line.add_argument("model", metavar="MODEL", nargs="?", help="run folder, checkpoint, model directory or models:/")
    line.add_argument("--name", help="of the registered model; not needed for models:/ and runs:/")
    line.add_argument("--alias", choices=[CANDIDATE, CHAMPION], default=CANDIDATE, help="what it goes by [candidate]")
    line.add_argument("--force", action="store_true", help="make it the champion even if it loses")
    line.add_argument("--metric", default="score", help="to compare by, of those in result.json [score]")
    line.add_argument("--maximize", action="store_true", help="more is better [less is better]")
    line.add_argument("--licence", metavar="SPDX", help="of the weights, such as CC-BY-4.0 [not stated]")
    line.add_argument("--list", action="store_true", help="show versions and aliases, and change nothing")
    line.add_argument("--experiment", help="of the run that a model gets which has none [the configuration's]")
    line.add_argument("--tracking-uri", metavar="URI", help="MLflow to ask [MLFLOW_TRACKING_URI, or runs/mlflow.db]")
    add_networks(line)
    options = line.parse_args(arguments)
    try:
        require("mlflow", extra="mlflow")
        from toposampler.tracking.address import default_uri

        uri = default_uri(options.tracking_uri)
        if options.list:
            return show(uri, options.name)
        if options.model is None:
            raise UserError("give a MODEL to register, or --list")
        if options.force and options.alias != CHAMPION:
            raise UserError("--force is of --alias champion: anything may become the candidate")
        with shown_log():
            return promote(options, uri)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def promote(options: argparse.Namespace, uri: str) -> int:
    """Register the model, unless it is, move the alias, and tell what became of it."""
    from toposampler.config import validate, without_password
    from toposampler.lookup import local
    from toposampler.tracking.address import registered_names, resolve
    from toposampler.tracking.champion import EVALUATION_SEED, Protocol, challenge, enter, measure
    from toposampler.tracking.registry import Registry, check_name
    from toposampler.tracking.runs import run_of
    from toposampler.tracking.server import check_server
    from toposampler.tracking.uri import REGISTERED, sqlite_file
    from toposampler.training.config import RunConfig
    from toposampler.training.model import data_of, read_weights

    registered = options.model.startswith(REGISTERED)
    if registered:
        registry, version = resolve(options.model, uri)
        if options.name not in (None, registry.name):
            raise UserError(f"--name {options.name}: {options.model} is a version of {registry.name}")
        if options.license:
            raise UserError("--license is given when a model is registered; a version is not changed")
    else:
        if options.name is None:
            raise UserError("--name is needed: what is the registered model to be called?")
        check_name(options.name)
        registry = Registry(uri, options.name)
    with local(f"models:/{registry.name}/{version}" if registered else options.model, uri) as place:
        weights = read_weights(place)
        config = validate(RunConfig, weights.config)
        dataset = data_of(config, weights.data)
        protocol = Protocol(
            options.metric,
            "maximize" if options.maximize else "minimize",
            config.training.evaluation_samples,
            EVALUATION_SEED,
            weights.data,
        )
        if registered:
            score = measure(place, dataset, protocol, options.networks)
            registry.set_alias(CANDIDATE, version)
        else:
            if sqlite_file(uri):
                check_server(uri)  # makes the file
            registered_names(uri)  # a server that does not answer is reported before anything is evaluated
            run_id = run_of(Path(place), config, uri, options.experiment)
            version, score = enter(
                registry, run_id, Path(place), dataset, protocol, {}, options.license, options.networks
            )
    print(f"registry  {without_password(uri)}")
    if options.alias == CANDIDATE:
        print(f"model     {registry.name} version {version} is the candidate ({options.metric} {score:.4f})")
        return 0
    verdict = challenge(registry, version, score, dataset, protocol, options.force, options.networks)
    print(f"model     {verdict.told()}")
    return 0


def show(uri: str, name: str | None) -> int:
    """Print the versions of the model `name`, or of all, with what they go by."""
    from toposampler.config import without_password
    from toposampler.tracking.address import registered_names
    from toposampler.tracking.registry import Registry

    names = registered_names(uri)
    if name is not None and name not in names:
        there = ", ".join(names) or "none"
        raise UserError(f"--name {name}: there is no such model at {without_password(uri)}; there are {there}")
    print(f"registry  {without_password(uri)}")
    for of in [name] if name else names:
        for version in Registry(uri, of).versions():
            tags = version.tags
            score = f"{tags['protocol.metric']} {float(tags['protocol.value']):.4f}" if "protocol.value" in tags else ""
            about = f"{tags.get('system', '?')} on {tags.get('data', '?')}, step {tags.get('step', '?')}"
            print(f"{of} {version.number:>4}  {', '.join(version.aliases) or '-':<20}  {about}  {score}")
    return 0
