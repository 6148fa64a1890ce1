"""Storage by its address: `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`, `file:///FOLDER`, through pyarrow's filesystems.

They are Ray's own way too. An object appears whole or not at all, and nothing is appended to one: that is all this
module takes for granted, so `file://` may name a bucket that is mounted as a folder.

| address | who asks, and where |
|---|---|
| s3:// | AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a role; AWS_REGION; AWS_ENDPOINT_URL |
| gs:// | GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, a service account |
| file:// | a folder that all machines see |
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from toposampler.errors import UserError
from toposampler.extras import require
from toposampler.files import local_path

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs", "file")
KINDS = "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER"
CONNECT_S, ANSWER_S, ATTEMPTS = 5, 30, 3
"""seconds until a server is connected to, and until it answers; times each request is tried"""
HINTS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role say who asks, AWS_REGION where the "
    "bucket is, AWS_ENDPOINT_URL names a server other than Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`, say who asks",
    "file": "it must be a folder that all machines see",
}


class Stamp(NamedTuple):
    """What tells one version of an object from another."""

    size: int
    """bytes"""
    time: int
    """of its last change: nanoseconds since 1970"""


class WorkedOn(str):
    """A folder on this machine, as text, in which what belongs to an `address` is worked on."""

    address: str

    def __new__(cls, folder: str, address: str) -> WorkedOn:
        """`folder` of this machine, for what is at `address`."""
        text = super().__new__(cls, folder)
        text.address = address
        return text

    def __reduce__(self) -> tuple[type[WorkedOn], tuple[str, str]]:
        return type(self), (str(self), self.address)


def is_address(text: str | Path) -> bool:
    """Whether `text` names storage by its address, and no file or folder."""
    return re.match(rf"({'|'.join(SCHEMES)})://", str(text)) is not None


def address_of(output: str) -> str | None:
    """The address that the run's `output` is, or is worked on for; None for a folder."""
    if isinstance(output, WorkedOn):
        return output.address
    return output if is_address(output) else None


def output_place(text: str) -> str:
    """The folder or the address that `text` names, without a slash at its end. Raises ValueError for another text."""
    if isinstance(text, WorkedOn):
        return text
    if not is_address(text):
        if foreign := re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
            raise ValueError(f"{foreign[0]} cannot be written to: give {KINDS}, or a folder that all machines see")
        return local_path(text)
    scheme, _, rest = text.partition("://")
    bucket, *folders = rest.rstrip("/").split("/")
    if scheme == "file":
        if bucket or not any(folders):
            raise ValueError(f"{text} has to be file:// and an absolute path, such as file:///mnt/runs")
    elif re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", bucket) is None:
        raise ValueError(
            f"{text} has to be {scheme}://BUCKET/FOLDER; a bucket's name has small letters, digits, '.', '_' and '-'. "
            f"Who asks, and where, is not part of it: {HINTS[scheme]}"
        )
    if "" in folders:
        raise ValueError(f"{text}: two slashes, and no name between them")
    if bad := next((part for part in folders if part in (".", "..") or set(part) & set("?#*")), None):
        raise ValueError(f"{text}: {bad!r} cannot be the name of a folder there")
    return text.rstrip("/")


def is_hidden(name: str) -> bool:
    """Whether the object `name`, or a folder in it, begins with a dot: it is of no run."""
    return any(part.startswith(".") for part in name.split("/"))


class Store:
    """The folder at `address`: objects by their names in it, such as `checkpoints/step_00000100.pt`.

    Raises UserError if pyarrow is missing or has no such filesystem. All methods raise OSError if the storage does not
    answer, or refuses.
    """

    def __init__(self, address: str) -> None:
        require("pyarrow", "tables", address)
        self.address = address
        self.scheme, _, path = address.partition("://")
        try:
            self.filesystem = _filesystem(self.scheme)
        except Exception as error:  # of pyarrow: ImportError, ArrowException, OSError, by what is wrong
            raise UserError(f"{address}: pyarrow cannot open it ({reason(error)}); {HINTS[self.scheme]}") from None
        self.path = path
        """as pyarrow wants it: without the scheme"""

    def at(self, name: str) -> str:
        """Where the object `name` is, for pyarrow."""
        return f"{self.path}/{name}" if name else self.path

    def check(self, key: str) -> None:
        """Raises UserError, naming the configuration's `key`, unless objects can be written here, and removed."""
        name = f".probe-{secrets.token_hex(4)}"
        try:
            self.write(name, b"")
            self.delete(name)
        except OSError as error:
            raise UserError(
                f"{key}: {self.address} cannot be written to: {reason(error)}; {HINTS[self.scheme]}"
            ) from None

    def stamps(self) -> dict[str, Stamp]:
        """All objects, by name; none where there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        found = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True, recursive=True))
        start = len(self.path.rstrip("/")) + 1
        return {i.path[start:]: Stamp(i.size, i.mtime_ns) for i in found if i.type == FileType.File}

    def has(self, name: str = "") -> bool:
        """Whether there is an object `name`; without a name, whether the address itself is that of one."""
        from pyarrow.fs import FileType

        return bool(self.filesystem.get_file_info(self.at(name)).type == FileType.File)

    def read(self, name: str, offset: int = 0) -> bytes:
        """The bytes of the object `name` from `offset` on."""
        with self.filesystem.open_input_file(self.at(name)) as stream:
            stream.seek(offset)
            return bytes(stream.read())

    def get(self, name: str, file: Path) -> None:
        """Copy the object `name` to `file`, which appears whole or not at all, with the time of its last change."""
        from pyarrow.fs import LocalFileSystem, copy_files

        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
        changed = self.filesystem.get_file_info(self.at(name)).mtime_ns
        try:
            copy_files(self.at(name), str(draft), self.filesystem, LocalFileSystem(), use_threads=False)
            if changed is not None:
                os.utime(draft, ns=(changed, changed))
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)

    def put(self, file: Path, name: str) -> None:
        """Copy `file` to the object `name`, which appears whole or not at all."""
        from pyarrow.fs import LocalFileSystem, copy_files

        with self._draft(name) as draft:
            copy_files(str(file), draft, LocalFileSystem(), self.filesystem, use_threads=False)

    def write(self, name: str, content: bytes) -> None:
        """Make `content` the object `name`, which appears whole or not at all."""
        with self._draft(name) as draft, self.filesystem.open_output_stream(draft) as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        """Remove the object `name`, if there is one."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(self.at(name))

    @contextmanager
    def _draft(self, name: str) -> Iterator[str]:
        """Where to write `name`: a bucket shows an object once it is complete, in a folder a draft is renamed."""
        path = self.at(name)
        if self.scheme != "file":
            yield path
            return
        place = PurePosixPath(path)
        self.filesystem.create_dir(str(place.parent), recursive=True)
        draft = str(place.with_name(f".{place.name}.{secrets.token_hex(4)}.new"))
        try:
            yield draft
            self.filesystem.move(draft, path)
        except BaseException:
            with suppress(OSError):
                self.filesystem.delete_file(draft)
            raise


def _filesystem(scheme: str) -> FileSystem:
    """pyarrow's filesystem of one kind of address, from what the environment says."""
    from pyarrow import fs

    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return fs.S3FileSystem(
            endpoint_override=endpoint,
            region=region,
            connect_timeout=CONNECT_S,
            request_timeout=ANSWER_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )
    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=ANSWER_S))
    return fs.LocalFileSystem()


def reason(error: Exception) -> str:
    """What is wrong, of what a cloud's library says in a paragraph."""
    text = " ".join(str(error).split())
    known = {
        "NO_SUCH_BUCKET": "there is no such bucket",
        "ACCESS_DENIED": "access is denied",
        "NETWORK_CONNECTION": "the server cannot be reached",
    }
    said = next((f"{words} ({code})" for code, words in known.items() if code in text), None)
    return said or re.sub(r"\s*\(Request ID.*", "", text)[:300] or type(error).__name__


@contextmanager
def fetched(address: str, beside: Path | None = None) -> Iterator[Path]:
    """A copy on this machine of the model, the checkpoint or the run at `address`, there while the block runs.

    Of a run what a model needs: neither figures nor samples. The copy is made in the folder `beside`; None: among the
    temporary files. Raises UserError if there is nothing, or it cannot be read.
    """
    store = Store(output_place(address))
    with tempfile.TemporaryDirectory(prefix=".model-", dir=beside) as folder:
        place = Path(folder) / PurePosixPath(store.path).name
        try:
            if store.has():
                store.get("", place)
            else:
                names = [
                    name for name in store.stamps() if not name.startswith(("figures/", "profile/", "samples.npz"))
                ]
                names = [name for name in names if not is_hidden(name)]
                if not names:
                    raise UserError(
                        f"{address}: there is nothing; it has to be a run, a checkpoint or a model directory"
                    )
                for name in names:
                    store.get(name, place / name)
        except OSError as error:
            raise UserError(f"{address} cannot be read: {reason(error)}; {HINTS[store.scheme]}") from None
        yield place
