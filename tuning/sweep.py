"""`python tuning/sweep.py ...` is `toposampler sweep ...`; --help says what it takes."""

import sys

from toposampler.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
