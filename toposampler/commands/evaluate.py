"""Evaluate trained models: every metric that their data allows, beside real data against real data.

    toposampler evaluate MODEL [MODEL ...] [-n N] [--draws R] [--workers W] [--out FOLDER]
    toposampler evaluate MODEL --rejection jacobian --keep 0.9 0.8 0.7

MODEL is a run folder (its newest checkpoint), a checkpoint file, a model directory, or a model on
MLflow: models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID. All must have been trained on the
same data.

N samples are compared with N real ones, R times, with other samples and other real ones each time;
the table has the mean and half of Student's 95 % interval over the R draws, and says below each
metric which values are better. Its first row compares N other real ones with the same. Models that
differ only in their seed also get a row over seeds. docs/metrics.md says what each number means.

The draws are shared by W processes of a small Ray on this machine, or, with RAY_ADDRESS set, of
that cluster, whose machines must all see the models, their data and the folder of --cache under
the same paths. FOLDER gets evaluation.json, evaluation.csv and the figures, and so does the MLflow
run of each model, under `evaluation`.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from toposampler.commands.usage import add_networks, command, parser, shown_log
from toposampler.errors import UserError

SEED = 30_000
"""seed of the first draw: neither training nor promotion evaluates with it"""


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code: 0 done, 2 bad input, 130 stopped."""
    from toposampler.metrics.classifier import MINIMUM_ACCURACY
    from toposampler.rejection import METHODS

    line = parser(__doc__, "evaluate")
    line.add_argument("models", metavar="MODEL", nargs="+", help="run folder, checkpoint, model directory, models:/")
    line.add_argument("-n", type=int, metavar="N", help="samples in a draw [10000, or half of the data]")
    line.add_argument("--draws", type=int, default=5, metavar="R", help="draws, each evaluated by itself [5]")
    line.add_argument("--seed", type=int, default=SEED, help=f"of the first draw; the others' follow [{SEED}]")
    line.add_argument("--workers", type=int, default=2, metavar="W", help="processes; 1: this one, without Ray [2]")
    line.add_argument("--rejection", choices=METHODS, metavar="METHOD",
                      help=f"evaluate what it keeps of each model, too: {', '.join(METHODS)}")  # fmt: skip
    line.add_argument("--keep", type=float, nargs="+", metavar="SHARE",
                        help="shares that jacobian or density keeps, each a row")  # fmt: skip
    line.add_argument("--weights", type=Path, metavar="FILE.pt", help="of latent_rs, or where to train it; one MODEL")
    line.add_argument("--cap", type=float, nargs="+", metavar="W", help="weights from which latent_rs accepts all, "
                        "each a row [3]")  # fmt: skip
    line.add_argument("--out", type=Path, metavar="FOLDER", help="for all results [evaluations/DATE-TIME]")
    line.add_argument("--cache", type=Path, default=Path("evaluations") / "classifiers", metavar="FOLDER",
                        help="for classifiers of images [evaluations/classifiers]")  # fmt: skip
    line.add_argument("--minimum-accuracy", type=float, default=MINIMUM_ACCURACY, metavar="SHARE",
                        help=f"of a classifier on held-out images, or it is refused [{MINIMUM_ACCURACY}]")  # fmt: skip
    line.add_argument("--inception", nargs=2, metavar=("FILE", "SHA256"), help="weights of Inception as pytorch-fid "
                        "publishes them, and their hash: adds FID, KID and others in its features")  # fmt: skip
    line.add_argument("--dinov2", nargs=2, metavar=("FILE", "SHA256"), help="the same of DINOv2's ViT-L/14 "
                        "(dinov2_vitl14_pretrain.pth): adds FD-DINOv2 and others in its features")  # fmt: skip
    line.add_argument("--tracking-uri", metavar="URI", help="MLflow to ask for models:/ and runs:/ "
                        "[MLFLOW_TRACKING_URI, or runs/mlflow.db]")  # fmt: skip
    add_networks(line)
    options = line.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that Ray is left in order
    start = time.monotonic()
    try:
        from toposampler.commands.evaluation import evaluate  # here, so that --help is there at once

        with shown_log(), ExitStack() as copies:
            evaluate(options, copies)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(f"seconds     {time.monotonic() - start:.0f}")
    return 0
