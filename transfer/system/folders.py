"""Finds the one folder that holds the data: from the command line, the environment or the user's
cache."""

import os
from pathlib import Path, PurePosixPath

import platformdirs

from transfer.system.errors import DataError

VARIABLE = "KUZUSHIJI_DATA"
CACHELESS = "the cache in your home"
"""What a help text calls the cache folder if the user has no home folder."""
LEFTOVERS = {
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "folder.jpg",
    "icon\r",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}
LEFT_FOLDERS = {
    "__MACOSX",
    "@eaDir",
    "@SynoResource",
    "$RECYCLE.BIN",
    "System Volume Information",
    ".AppleDouble",
    ".Trashes",
    "lost+found",
}
"""Folders that Windows, macOS, Linux and network drives leave, besides all whose names begin with a
dot."""


def cache_folder() -> Path | None:
    """The user's cache folder of this project, e.g. ~/.cache/kuzushiji (it need not exist); None
    for a user without a home."""
    try:
        folder = platformdirs.user_cache_path("kuzushiji", appauthor=False)
    except RuntimeError:
        return None
    return (
        folder if folder.is_absolute() else None
    )  # else it begins with a ~ that stands for nothing


def is_leftover(path) -> bool:
    """Whether a path, or a member's name, is a leftover of file managers, archivers or
    synchronisers, and not data."""
    parts = PurePosixPath(str(path).replace("\\", "/")).parts
    return bool(parts) and (
        parts[-1].startswith(".")
        or parts[-1].lower() in LEFTOVERS
        or not LEFT_FOLDERS.isdisjoint(parts)
    )


def is_chosen(explicit=None) -> bool:
    """Whether the user named a folder, by `explicit` or by $KUZUSHIJI_DATA (an empty variable
    counts as unset)."""
    return explicit is not None or bool(os.environ.get(VARIABLE))


def data_folder(explicit=None) -> Path:
    """The data folder: `explicit` (--data), else $KUZUSHIJI_DATA, else the user's cache folder.
    Raises DataError if there is none."""
    named = explicit if explicit is not None else os.environ.get(VARIABLE)
    if explicit is None and not named:
        return needed_cache()
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise DataError(
            f"{named}: there is no such home folder; write the path without ~"
        ) from None


def needed_cache() -> Path:
    """The cache folder. Raises DataError if there is none."""
    if (folder := cache_folder()) is None:
        raise DataError(
            f"this user has no home folder to keep data in; give --data DIR, or set ${VARIABLE} "
            "or XDG_CACHE_HOME to a folder"
        )
    return folder
