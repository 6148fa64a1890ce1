"""`python ray_jobs/evaluate.py ...` is `toposampler evaluate ...`; --help says what it takes."""

import sys

from toposampler.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
