"""`python ray_jobs/train.py ...` is `toposampler train ...`; --help says what it takes."""

import sys

from toposampler.commands.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
