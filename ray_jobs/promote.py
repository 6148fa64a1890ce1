"""`python ray_jobs/promote.py ...` is `toposampler promote ...`; --help says what it takes."""

import sys

from toposampler.commands.promote import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
