"""Write a trained model as a directory for others: weights, card, and ONNX where asked.

    toposampler export MODEL DIR [--onnx] [--license SPDX] [--evaluation evaluation.json]

MODEL is a run folder (its newest checkpoint), a checkpoint file, a model directory, or a model on
MLflow: models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID. DIR must not exist. It gets:

  model.json, config.json, weights.safetensors, samples.png
                   the model, which `toposampler sample DIR` and `toposampler.load` read
  README.md        the model card, in Hugging Face's form: DIR can be uploaded as it is
  generators.onnx  with --onnx: latents (n, dim) and generator ids (n,) to samples in the units of
                   the data; checked against torch, by onnxruntime, to 1e-5
  onnx.json        with --onnx: the latents' distribution and the masses of the generators

--evaluation has the card tell the metrics of `toposampler evaluate`, with their intervals. Exit
codes: 0 done, 2 bad input; then nothing is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from toposampler.commands.usage import add_networks, command, parser
from toposampler.errors import UserError


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    line = parser(__doc__, "export")
    line.add_argument("model", metavar="MODEL", help="run folder, checkpoint, model directory or models:/")
    line.add_argument("out", type=Path, metavar="DIR", help="the directory to write, a new one")
    line.add_argument("--onnx", action="store_true", help="write the generators as ONNX, too")
    line.add_argument("--licence", "--license", metavar="SPDX", help="of the weights, such as CC-BY-4.0 [the model's]")
    line.add_argument("--evaluation", type=Path, metavar="FILE", help="of `toposampler evaluate`, for the card")
    line.add_argument("--tracking-uri", metavar="URI", help="MLflow to ask [MLFLOW_TRACKING_URI, or runs/mlflow.db]")
    add_networks(line)
    options = line.parse_args(arguments)
    try:
        from toposampler.exporting import export  # here, so that --help is there at once
        from toposampler.files import out_path
        from toposampler.lookup import local
        from toposampler.training.manifest import check_license

        license = None if options.license is None else check_license(options.license)
        out = out_path(options.out, "DIR")
        with local(options.model, options.tracking_uri) as place:
            export(place, out, license, options.networks, options.onnx, options.evaluation)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path}")
    return 0
