"""A run as a Ray job: submitted from any machine that reaches the dashboard of the cluster, and followed from there."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from toposampler.config import HIDDEN, without_password
from toposampler.distributed.commit import COMMIT, git_commit
from toposampler.errors import UserError
from toposampler.tracking.uri import VARIABLE
from toposampler.training.config import RunConfig

STOP_WAIT_S = 30
"""seconds that `ray job stop` gives a job to save its checkpoint; Ray's own are 3"""
LOOK_EVERY_S = 0.5


def submit(address: str, config: RunConfig, command: Sequence[str]) -> str:
    """Submit `command`, which trains `config`, to the cluster whose dashboard is at `address`.

    The current folder goes with it, without what `.gitignore` names. The command line, which every user of the cluster
    can read, has no password: an address of MLflow with one goes in the job's environment.

    Returns the submission id. Raises UserError if the cluster does not take it.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)  # else every ignored file is told four times
    commit = git_commit()
    metadata = {"run": config.name, "system": config.system.name, "data": config.data.name}
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    if secret := _secret_uri(config):
        environment[VARIABLE] = secret
        command = [argument.replace(secret, without_password(secret)) for argument in command]
    try:
        return job_client(address).submit_job(
            entrypoint=shlex.join(command),
            submission_id=f"{config.name}-{uuid4().hex[:6]}",
            metadata=metadata | ({"git_commit": commit} if commit else {}),
            runtime_env={
                "working_dir": ".",
                "env_vars": environment | ({COMMIT: commit} if commit else {}),
            },
        )
    except UserError as error:
        raise UserError(f"--submit: {error}") from None
    except Exception as error:  # ConnectionError, RuntimeError, ValueError and more, by what is wrong
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--submit: the job cannot be submitted to {address} ({reason}). It must be the address of the "
            "dashboard of a Ray cluster, such as http://127.0.0.1:8265"
        ) from None


def job_client(address: str) -> JobSubmissionClient:
    """The way to the jobs of the cluster whose dashboard is at `address`, with its token if it asks for one.

    Ray 2.60's `ray start --head` has clusters ask. Raises UserError if the token is not found, or is not the right one;
    what Ray raises, if there is no cluster.
    """
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        found, said = ray_token(), error.message.partition("\n")[0]
    if found is not None:
        token, place = found
        try:
            return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"})
        except AuthenticationError as error:
            said = error.message.partition("\n")[0]
    reason = "none was found in RAY_AUTH_TOKEN, in the file RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token"
    if found is not None:
        reason = f"the one in {place} is not its token"
    raise UserError(
        f"the Ray cluster at {address} asks for a token, and {reason} (it says: {said}). `ray get-auth-token` prints "
        "it on the machine that started the cluster; here: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=..."
    )


def ray_token() -> tuple[str, str] | None:
    """The token that Ray's clients would send, and where it was found; None if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    for path in (os.environ.get("RAY_AUTH_TOKEN_PATH"), "~/.ray/auth_token"):
        with suppress(OSError, ValueError):  # absent, or no text
            if path and (token := Path(path).expanduser().read_text().strip()):
                return token, path
    return None


def follow(address: str, submission: str) -> int:
    """Print the job's log as it comes, until the job ends, and return the exit code of its command (143: stopped).

    Raises UserError if the cluster is gone.
    """
    try:
        client = job_client(address)
        asyncio.run(_print_log(client, submission))
        while not (job := client.get_job_info(submission)).status.is_terminal():
            time.sleep(LOOK_EVERY_S)
    except (OSError, ClientError, RuntimeError) as error:  # requests' errors are OSErrors, aiohttp's only in part
        raise UserError(
            f"the log of {submission} has broken off: {error}\n{how_to_follow(address, submission)}"
        ) from None
    return exit_code(job)


async def _print_log(client: JobSubmissionClient, submission: str) -> None:
    async for text in client.tail_job_logs(submission):
        sys.stdout.write(text)
        sys.stdout.flush()


def exit_code(job: JobDetails) -> int:
    """The exit code of the ended job's command; 143 if the job was stopped, 1 if it never got so far."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        return 143
    return job.driver_exit_code or 1


def how_to_follow(address: str, submission: str) -> str:
    """The commands that follow a job and stop it."""
    tokens = [] if ray_token() is None else ["if the cluster asks for a token: export RAY_AUTH_MODE=token"]
    return "\n".join(
        [
            *tokens,
            f"follow   {shlex.join(['ray', 'job', 'logs', '--address', address, '--follow', submission])}",
            f"status   {shlex.join(['ray', 'job', 'status', '--address', address, submission])}",
            f"stop     {how_to_stop(address, submission)}",
        ]
    )


def how_to_stop(address: str, submission: str) -> str:
    """The command that stops a job."""
    return shlex.join(["ray", "job", "stop", "--address", address, submission])


def _secret_uri(config: RunConfig) -> str | None:
    """The address of MLflow that `config` names, if it holds a password; also one written down without it, where the
    environment here has it."""
    uri, given = config.tracking.uri or "", os.environ.get(VARIABLE, "")
    if HIDDEN in uri and without_password(given) == uri:
        uri = given
    return uri if without_password(uri) != uri else None
