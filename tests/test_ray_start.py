"""A Ray that cannot be started or joined: one message that says what to set, whatever Ray itself raises."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from toposampler.config import ClusterConfig
from toposampler.distributed import jobs, trainer
from toposampler.distributed.cluster import MAX_SOCKET_BYTES, check_socket_paths, cluster
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.training import RunConfig

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_folder_for_temporary_files_is_refused_before_ray_starts(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    monkeypatch.setenv(variable, "/tmp/" + "x" * 80)
    said = rf"^{variable}: Ray's sockets would lie .* {MAX_SOCKET_BYTES} that Unix .* /tmp$"
    with pytest.raises(UserError, match=said), cluster(ClusterConfig()):
        pytest.fail("there is no Ray")
    monkeypatch.setenv(variable, "/tmp")
    check_socket_paths()


@pytest.mark.parametrize(
    "error", [TimeoutError("Timed out waiting\nfor file /x"), RuntimeError("Failed.\nmore"), OSError()]
)
def test_a_ray_that_does_not_start_is_one_message(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    said = r"^Ray cannot be started on this machine: (Timed out|Failed|OSError).* tries again$"
    with pytest.raises(UserError, match=said), cluster(ClusterConfig()):
        pytest.fail("there is no Ray")


@pytest.fixture
def dashboard_with_token() -> Iterator[str]:
    """The address of a server that answers as the dashboard of a Ray 2.60 with token authentication does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            answers = {None: (401, "Unauthorized: Missing authentication token"), f"Bearer {TOKEN}": (200, "")}
            code, text = answers.get(given, (403, "Forbidden: Invalid authentication token"))
            if code == 200:
                text = json.dumps({"version": "4", "ray_version": ray.__version__, "session_name": "x"})
            self.send_response(code)
            self.send_header("Content-Type", "application/json" if code == 200 else "text/plain")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_token_that_is_missing_is_asked_for_with_what_the_cluster_says(
    dashboard_with_token: str, make_config: Callable[..., RunConfig]
) -> None:
    said = (
        rf"^--submit: the Ray cluster at {dashboard_with_token} asks for a token, and none was found in "
        r"RAY_AUTH_TOKEN, .*it says: .*Missing authentication token.* `ray get-auth-token` prints .*"
        r"RAY_AUTH_MODE=token RAY_AUTH_TOKEN="
    )
    with pytest.raises(UserError, match=said) as caught:
        jobs.submit(dashboard_with_token, make_config("wgan_gp"), ["python", "x.py"])
    assert "It must be the address of the dashboard" not in str(caught.value), "the address is right"


@pytest.mark.parametrize("place", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"])
def test_the_token_is_found_where_ray_keeps_it(
    place: str, dashboard_with_token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give(token: str) -> None:
        if place == "RAY_AUTH_TOKEN":
            monkeypatch.setenv(place, token)
            return
        file = tmp_path / (".ray/auth_token" if place.startswith("~") else "token")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{token}\n")
        if place == "RAY_AUTH_TOKEN_PATH":
            monkeypatch.setenv(place, str(file))

    give(TOKEN)
    jobs.job_client(dashboard_with_token)
    assert "export RAY_AUTH_MODE=token" in jobs.how_to_follow(dashboard_with_token, "run-1")
    give("another")
    with pytest.raises(
        UserError, match=r"asks for a token, and the one in .* is not its token .it says: .*Invalid"
    ) as caught:
        jobs.job_client(dashboard_with_token)
    assert TOKEN not in str(caught.value)
    assert "another" not in str(caught.value)


def test_an_address_without_a_cluster_is_still_said_to_be_wrong(make_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(UserError, match="It must be the address of the dashboard of a Ray cluster"):
        jobs.submit("http://127.0.0.1:9", make_config("wgan_gp"), ["python", "x.py"])


def test_a_ray_that_loses_its_own_process_is_one_message(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        raise ray.exceptions.OutOfMemoryError("7 worker(s) were killed: the node runs low on memory.\nTop 10")

    monkeypatch.setattr(trainer, "_trainer", lambda _: SimpleNamespace(fit=lose))
    with pytest.raises(TrainingStoppedError) as caught:
        trainer.train_on_workers(make_config("wgan_gp"))
    assert str(caught.value) == (
        "Ray lost the process that leads the workers: 7 worker(s) were killed: the node runs low on memory; the same "
        "command resumes from the newest checkpoint"
    )
