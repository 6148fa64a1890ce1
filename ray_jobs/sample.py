"""`python ray_jobs/sample.py ...` is `toposampler sample ...`; --help says what it takes."""

import sys

from toposampler.commands.sample import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
