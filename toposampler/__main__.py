"""`python -m toposampler` is the command `toposampler`."""

import sys

from toposampler.commands.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
