"""Folders of the project that an installed package holds and that lie beside it in a checkout."""

from pathlib import Path

from mrisr.core.errors import UsageError


def shipped(name: str) -> Path:
    """The folder ``pipelines`` or ``configs``. Raises UsageError."""
    package = Path(__file__).parents[1]
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise UsageError(f"the installation lacks its folder {name} (looked in {package})")
