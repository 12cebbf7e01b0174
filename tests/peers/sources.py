"""The tests of installed packages, out of their source distributions."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path


def tests_of(package: str, source: Path | None, folder: Path) -> Path:
    """The folder with the tests of a package, of the version that is installed.

    :param package: as it is imported
    :param source: folder with unpacked source distributions or checkouts; None: pip downloads the distribution
    :param folder: for what is downloaded
    :raises SystemExit: if they are not there, or of another version
    """
    wanted = version(package)
    if source is None:
        distribution = f"{package.replace('_', '-')}=={wanted}"
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, distribution], check=True)
        for archive in folder.glob(f"{package}-*.tar.gz"):
            with tarfile.open(archive) as content:
                content.extractall(folder, filter="data")
        source = folder
    for found in source.rglob(f"{package}/version.txt"):
        tests = found.parents[1] / "tests"
        if found.read_text().strip() == wanted and tests.is_dir():
            return tests
    raise SystemExit(f"{source} holds no tests of {package} {wanted}, which is installed: give a checkout of that version")
