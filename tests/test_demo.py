"""The demo: what its server takes and refuses, and, in a browser, two blobs that are drawn and trained on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from processes import ROOT
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from toposampler.commands.demo import main
from toposampler.demo import protocol, race, server
from toposampler.demo.protocol import Start, parse

OWN = {"origin": "http://testserver", "host": "testserver"}


def blobs(n: int = 300) -> list[list[float]]:
    """Two blobs."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(n, 2)) * 0.08 + np.where(np.arange(n)[:, None] % 2, 0.5, -0.5)
    return [[round(x, 3), round(y, 3)] for x, y in places.tolist()]


def start(points: list[list[float]], *systems: str, number: int = 1) -> str:
    """The message that begins a race."""
    return json.dumps({"type": "start", "race": number, "points": points, "systems": systems or ["wgan_gp"]})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A client of the demo on `testserver`, where races are of a few steps."""
    monkeypatch.setattr(race, "STEPS", 12)
    monkeypatch.setattr(race, "TURN_S", 0.02)
    return TestClient(server.application("testserver"))


@contextmanager
def connected(client: TestClient) -> Iterator[WebSocketTestSession]:
    with client.websocket_connect("/race", headers=OWN) as page:
        assert page.receive_json()["type"] == "limits"
        yield page


def heard(page: WebSocketTestSession) -> list[dict[str, Any]]:
    """What the server says until a race ends."""
    messages = [page.receive_json()]
    while messages[-1]["type"] not in ("done", "error"):
        messages.append(page.receive_json())
    return messages


def test_a_race_shows_every_system_until_its_last_step(client: TestClient) -> None:
    with connected(client) as page:
        page.send_text(start(blobs(), "wgan_gp", "dmgan_pl", "component_gan", number=7))
        first, *frames, last = heard(page)
    assert (first["type"], first["components"], last) == ("data", 2, {"type": "done", "race": 7})
    for system, K in (("wgan_gp", 1), ("dmgan_pl", 10), ("component_gan", 2)):
        of = [frame for frame in frames if frame["system"] == system]
        steps = [frame["step"] for frame in of]
        assert steps == sorted(steps)
        assert (steps[0], steps[-1]) == (0, 12)
        assert np.array(of[-1]["samples"]).shape == (race.SHOWN, 2)
        assert max(of[-1]["generators"]) < K
        assert of[-1]["prior"] is None if K == 1 else sum(of[-1]["prior"]) == pytest.approx(1, abs=1e-2)
        assert of[-1]["bars"] == sorted(of[-1]["bars"], reverse=True)
        assert len(of[-1]["bars"]) == race.BARS
    assert of[0]["components"] == 2  # component_gan begins at the components
    assert of[0]["bars"][0] == pytest.approx(first["bars"][0], rel=0.5)  # in units of the drawing


def test_the_engine_is_that_of_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "STEPS", 3)
    stepped = []
    iteration = race.Run.advance
    monkeypatch.setattr(race.Run, "advance", lambda run, step: stepped.append(step) or iteration(run, step))
    asked = parse(start(blobs(), "wgan_gp"))
    assert isinstance(asked, Start)
    race.race(asked, lambda _: None, lambda: False)
    assert stepped == [1, 2, 3]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (start([]), "Nothing is drawn yet"),
        (start(blobs(99)), "99 points are drawn, and at least 100 are needed"),
        (start([[0.1, 0.1]] * 200), "The points are in 1 different place, and at least 20 are needed"),
        (start([[0.0, 0.0]] * 5001), "5,001 points are drawn, and at most 5,000"),
        (start([[0.0, 3.0]] * 200), "less than or equal to 2"),
        (start(blobs()).replace("[[", "[[NaN, 0.0], [", 1), "finite number"),
        (start(blobs(), "wgan_gp", "wgan_gp"), "each system races once"),
        (start(blobs(), "r3gan"), "Input should be 'wgan_gp', 'dmgan_pl' or 'component_gan'"),
        ('{"type": "run", "code": "1"}', "not a message of this page"),
        ("[", "not a message of this page"),
        ("[" * 100_000, "not a message of this page"),
        (" " * (protocol.MESSAGE_BYTES + 1), "at most 262,144 bytes"),
    ],
    ids=range(12),
)
def test_what_cannot_be_trained_on_is_told(client: TestClient, message: str, told: str) -> None:
    with connected(client) as page:
        page.send_text(message)
        answer = heard(page)[-1]
        assert answer["type"] == "error"
        assert told in answer["message"]
        page.send_text(start(blobs()))  # the page can go on
        assert heard(page)[-1]["type"] == "done"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "testserver"},
        {"host": "testserver", "origin": "http://evil.example"},
        {"host": "testserver", "origin": "null"},
        {"host": "evil.example", "origin": "http://evil.example"},
        {"host": "testserver:80", "origin": "http://testserver:81"},
    ],
    ids=["no origin", "foreign page", "file", "rebound name", "another port"],
)
def test_foreign_pages_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/race", headers=headers):
        pass


@pytest.mark.parametrize("host", ["testserver", "localhost:8123", "127.0.0.1:8123", "[::1]:8123", "192.168.0.7"])
def test_addresses_and_own_names_are_served(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    with client.websocket_connect("/race", headers={"host": host, "origin": f"http://{host}"}) as page:
        assert page.receive_json()["type"] == "limits"


def test_a_foreign_host_is_refused_the_page(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/../server.py").status_code == 404


def test_a_closed_page_stops_its_training(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "STEPS", 10**6)
    with connected(client) as page:
        page.send_text(start(blobs()))
        while page.receive_json()["type"] != "frame":
            pass
    with connected(client) as page:
        monkeypatch.setattr(race, "STEPS", 12)
        monkeypatch.setattr(server, "MOST_RACES", 1)  # the one before has ended, or this one would be refused
        page.send_text(start(blobs()))
        assert heard(page)[-1]["type"] == "done"


def test_more_races_than_the_machine_may_run_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_RACES", 0)
    with connected(client) as page:
        page.send_text(start(blobs()))
        assert "0 races are on already" in heard(page)[-1]["message"]
    monkeypatch.setattr(server, "MOST_PAGES", 0)
    with client.websocket_connect("/race", headers=OWN) as page:
        assert "0 pages are connected already" in page.receive_json()["message"]


def test_a_new_race_takes_the_place_of_the_one_before(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "STEPS", 10**6)
    with connected(client) as page:
        page.send_text(start(blobs(), number=1))
        while page.receive_json()["type"] != "frame":
            pass
        monkeypatch.setattr(race, "STEPS", 12)
        page.send_text(start(blobs(), number=2))
        assert heard(page)[-1] == {"type": "done", "race": 2}


def test_many_starts_in_a_row_end_in_the_last(client: TestClient) -> None:
    with connected(client) as page:
        for number in range(1, 9):
            page.send_text(start(blobs(), number=number))
        messages = heard(page)
        while messages[-1]["race"] != 8:
            messages += heard(page)
    assert messages[-1] == {"type": "done", "race": 8}


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["--port", str(port), "--no-browser"]) == 2
    assert (
        f"the demo cannot listen at 127.0.0.1, --port {port}: Address already in use; give another"
        in capsys.readouterr().err
    )
    assert main(["--port", "70000"]) == 2
    assert main(["--host", "192.0.2.1", "--no-browser"]) == 2  # of documentation alone (RFC 5737)
    assert "--host 192.0.2.1 is no address of this machine" in capsys.readouterr().err
    assert main(["--host", "no such host"]) == 2
    assert "--host no such host is no address" in capsys.readouterr().err


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "toposampler", "demo", "--port", "0", "--no-browser", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" at ")[1].split()[0], process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_two_drawn_blobs_are_trained_on_and_two_components_are_shown(width: int) -> None:
    from browser import browse

    with served() as (address, process), browse(width) as browser:
        page = browser.page
        page.goto(address)
        page.wait_for_selector("#train:enabled")
        page.click("#train")
        page.wait_for_selector("#message.fault:has-text('Nothing is drawn yet')")
        box = page.locator("#board").bounding_box()
        assert box is not None
        for across in (0.25, 0.75):
            page.mouse.move(box["x"] + across * box["width"], box["y"] + 0.5 * box["height"])
            page.mouse.down()
            for _ in range(40):
                page.mouse.move(box["x"] + across * box["width"], box["y"] + 0.5 * box["height"])
            page.mouse.up()
        page.uncheck("input[value=dmgan_pl]")  # WGAN-GP trains on when Component GAN has its two components
        begun = time.monotonic()
        page.click("#train")
        page.wait_for_selector(".lane[data-system=component_gan] .components:text-is('2 components')", timeout=30_000)
        page.wait_for_selector(".lane[data-system=wgan_gp] .progress:text-matches('^step [1-9]')", timeout=30_000)
        assert time.monotonic() - begun < 30
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.click("#train")
        page.wait_for_selector("#message:text-is('Stopped.')")
        assert browser.errors == []
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
