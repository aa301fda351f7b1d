"""The files in ``configs/`` come with the package: ``configs/pretrain.py`` means them in any working directory."""

import pathlib
import sysconfig

FOLDER = "configs"


def folders() -> list[pathlib.Path]:
    """Where they may lie: beside the package in a checkout, else where pip puts the data files of a package."""
    root = pathlib.Path(__file__).parents[2]
    checkout = [root / FOLDER] if (root / "pyproject.toml").is_file() else []
    return [*checkout, pathlib.Path(sysconfig.get_path("data"), "share", "alp_jax", FOLDER)]


def find(file: str) -> pathlib.Path | None:
    """``file`` if it exists, else the shipped file that a relative path into ``configs`` names; None if neither.

    A file in the working directory always comes first.
    """
    path = pathlib.Path(file)
    if path.is_file():
        return path
    if path.is_absolute() or path.parts[:1] != (FOLDER,) or ".." in path.parts:
        return None
    inside = pathlib.Path(*path.parts[1:])
    return next((folder / inside for folder in folders() if (folder / inside).is_file()), None)


def names(below: str = ".") -> list[str]:
    """The shipped files of ``configs`` or of a folder in it, as they are given on the command line."""
    files = {path.name for folder in folders() for path in (folder / below).glob("*.py")}
    return [str(pathlib.Path(FOLDER, below, name)) for name in sorted(files)]
