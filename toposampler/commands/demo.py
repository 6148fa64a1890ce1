"""Draw a data set in the browser and watch systems train on it.

    toposampler demo [--host HOST] [--port PORT] [--no-browser]

Serves a page on this machine, prints its address and opens the browser there. Draw blobs, rings or
lines with the mouse or a finger, choose one to three of wgan_gp, dmgan_pl and component_gan, and
they train in turns of equal time in this process: samples, masses of the generators and barcodes
move along. A closed page stops its training. Ctrl-C ends the server.

Nobody else can reach the page, unless --host is another address than 127.0.0.1: then whoever
reaches this machine can have it train. Needs the extra `demo`: pip install '.[demo]'.
Exit codes: 130 and 143 stopped by a signal, 2 bad input.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
import threading
import webbrowser

from toposampler.commands.usage import command, parser
from toposampler.errors import UserError
from toposampler.extras import require

HOST, PORT = "127.0.0.1", 8123


@command
def main(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code."""
    line = parser(__doc__, "demo")
    line.add_argument("--host", default=HOST, help=f"address to listen at [{HOST}: this machine only]")
    line.add_argument("--port", type=int, default=PORT, help=f"0: a free one [{PORT}]")
    line.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    options = line.parse_args(arguments)
    try:
        for package in ("starlette", "uvicorn", "websockets"):
            require(package, "demo", "the demo")
        return serve(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def serve(options: argparse.Namespace) -> int:
    """Serve the demo until a signal ends it. Raises UserError if it cannot listen there."""
    with listening(options.host, options.port) as listener:
        import torch
        import uvicorn

        from toposampler.demo.protocol import MESSAGE_BYTES
        from toposampler.demo.race import warm_up
        from toposampler.demo.server import application

        torch.set_num_threads(1)  # networks of this size are no faster with more
        warm_up()
        config = uvicorn.Config(
            application(options.host),
            ws="auto",
            ws_max_size=MESSAGE_BYTES,
            log_level="warning",
            timeout_graceful_shutdown=2,
        )
        address = address_of(listener)
        print(f"the demo is at {address} (Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        stopped_by: list[int] = []
        server = uvicorn.Server(config)

        def stop(number: int, _: object) -> None:
            stopped_by.append(number)
            server.should_exit = True

        signal.signal(signal.SIGINT, stop)  # uvicorn calls these after it has ended in order
        signal.signal(signal.SIGTERM, stop)
        server.run(sockets=[listener])
    return 128 + stopped_by[0] if stopped_by else 0


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at `host` and `port`. Raises UserError if that cannot be."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: ports are 0 (a free one) to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise UserError(f"--host {host} is no address of this machine: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"--host {host} is no address of this machine") from None
        right = "1024 or more" if error.errno == errno.EACCES else "another, or 0 for a free one"
        reason = os.strerror(error.errno or 0)
        raise UserError(f"the demo cannot listen at {host}, --port {port}: {reason}; give {right}") from None


def address_of(listener: socket.socket) -> str:
    """What a browser on this machine opens."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
