"""Face-Bed: faces of CelebA and bedrooms of LSUN, two kinds of images with nothing between (arXiv 1806.00880)."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from toposampler.data.base import DataConfig, Dataset
from toposampler.data.components import label_frequencies
from toposampler.data.images import COMMON, MAX_SIDE, MIN_SIDE, from_bytes, image_paths, read_image
from toposampler.errors import UserError
from toposampler.keys import may

LIST, ARCHIVE, FACES = "list_attr_celeba.txt", "img_align_celeba.zip", "img_align_celeba"
MD5 = {LIST: "75e246fa4810816ffd6ee81facbd244c", ARCHIVE: "00d2c5bc6d35e252742224ab0c1e8fcb"}
"""of the files that CelebA's authors published, as in torchvision.datasets.CelebA"""
N_CELEBA = 202_599


class FaceBedConfig(DataConfig):
    """The first images of both sets: faces (component 0) in the order of CelebA's list, bedrooms (1) by their paths.

    Each is cropped to its central square, of a face 178 x 178 of 178 x 218 pixels, and resized. Which images the
    paper has and how it crops them is not known.
    """

    name: Literal["face_bed"] = "face_bed"
    root: Path = Field(Path("data"), json_schema_extra=may(resume=True))
    """folder that holds celeba/ and bedrooms/, as docs/images.md has them"""
    size: int = Field(64, ge=MIN_SIDE, le=MAX_SIDE)
    """side of the square images, in pixels"""
    n_each: int = Field(20_000, ge=1, le=N_CELEBA)
    """faces, and as many bedrooms"""

    def load(self) -> Dataset:
        """Read the images (2 n_each, 3, size, size). Raises UserError if files are absent, or are not CelebA's."""
        paths = [*self._faces(), *self._bedrooms()]
        images = torch.empty(len(paths), 3, self.size, self.size, dtype=torch.uint8)
        for image, path in zip(images, paths, strict=True):
            image.copy_(read_image(path, self.size, self.size, channels=3))
        labels = torch.arange(2).repeat_interleave(self.n_each)
        return Dataset(from_bytes(images), labels, label_frequencies(labels))

    def _faces(self) -> list[Path | zipfile.Path]:
        """Where the first faces of CelebA's list are: in its archive, or in the folder unpacked from it."""
        folder = self.root / "celeba"
        self._check(folder / LIST)
        rows = (folder / LIST).read_text().splitlines()[2:]  # below their number and the attributes' names
        place: Path | zipfile.Path = folder
        if not (folder / FACES).is_dir():
            self._check(folder / ARCHIVE)
            place = zipfile.Path(folder / ARCHIVE)
        paths = [place / FACES / row.split()[0] for row in rows[: self.n_each]]
        for path in paths:
            if not path.is_file():
                raise UserError(f"{path} is absent, and CelebA's list names it: {self._needed()}")
        return paths

    def _bedrooms(self) -> list[Path]:
        """The first images below `bedrooms`."""
        folder = self.root / "bedrooms"
        paths = image_paths(folder)
        if len(paths) < self.n_each:
            raise UserError(
                f"{folder} holds {len(paths):,} images ({COMMON}), fewer than data.n_each, "
                f"{self.n_each:,}: {self._needed()}"
            )
        return [folder / path for path in paths[: self.n_each]]

    def _check(self, path: Path) -> None:
        """Raises UserError if `path` is absent or is not the file CelebA's authors published."""
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "md5").hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): {self._needed()}") from None
        if found != MD5[path.name]:
            raise UserError(
                f"{path} has MD5 {found}; the file of CelebA's authors has {MD5[path.name]}: fetch it again"
            )

    def _needed(self) -> str:
        """What must be where."""
        return (
            f"face_bed needs CelebA's {LIST} and {ARCHIVE}, or the folder {FACES}, in {self.root / 'celeba'}, and "
            f"bedrooms of LSUN as images in {self.root / 'bedrooms'}; docs/images.md says where to get them"
        )
