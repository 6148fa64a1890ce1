"""What is altered in files, seeded, and what is allowed to come of it: success or UserError, soon, in little memory."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from toposampler.errors import UserError

LONGEST_MESSAGE = 12_000
"""characters"""
MAX_BYTES = 500 * 2**20
"""memory, over what was in use before"""
MAX_SECONDS = 20.0
"""for one file, on a machine with other work: what hangs takes for ever"""
INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def altered_bytes(content: bytes, rng: random.Random) -> bytes:
    """`content` with one to three alterations: of bits, bytes, numbers, parts, or its length."""
    altered = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        i = rng.randrange(len(altered) or 1)
        if rng.random() < 0.5:
            i = min(i, rng.randrange(200))  # half of them in the header
        length = rng.choice((1, 2, 4, 8, 50))
        match rng.randrange(9):
            case 0 | 1:
                altered[i : i + 1] = bytes([rng.randrange(256)])
            case 2:
                altered[i : i + 1] = bytes([(altered[i] if altered else 0) ^ 1 << rng.randrange(8)])
            case 3:
                altered[i : i + length] = rng.randbytes(length)
            case 4:
                size = rng.choice((1, 2, 4, 8))
                number = rng.choice(INTEGERS) % 256**size
                altered[i : i + size] = number.to_bytes(size, rng.choice(("little", "big")))
            case 5:
                del altered[i : i + length]
            case 6:
                altered[i:i] = altered[i : i + length]
            case 7:
                altered[i:i] = rng.randbytes(length)
            case _:
                del altered[rng.choice((i, len(altered) - length)) :]
    return bytes(altered)


@contextmanager
def little_memory() -> Iterator[None]:
    """The test fails if the block takes more than `MAX_BYTES` over what was in use, at any moment."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (taken := (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024) < MAX_BYTES, taken


def read_or_refused(read: Callable[[], object], what: str) -> bool:
    """Whether `read` takes what was altered. The test fails, naming `what`, on anything but success or a refusal."""
    start = time.monotonic()
    try:
        read()
        taken = True
    except UserError as error:
        taken = False
        if len(str(error)) > LONGEST_MESSAGE:
            pytest.fail(f"{what}: a message of {len(str(error))} characters: {str(error)[:500]}")
    except Exception as error:
        pytest.fail(f"{what} raised {error!r:.500}")
    if (seconds := time.monotonic() - start) > MAX_SECONDS:
        pytest.fail(f"{what} took {seconds:.0f} s")
    return taken
