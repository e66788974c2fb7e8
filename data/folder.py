"""A command-line value, the environment or the user's cache into the one folder that holds the data."""
import os
from pathlib import Path

import platformdirs

VARIABLE = "KUZUSHIJI_DATA"


def cache_folder() -> Path:
    """The user's cache folder of this project, e.g. ~/.cache/kuzushiji (it need not exist)."""
    return platformdirs.user_cache_path("kuzushiji", appauthor=False)


def is_chosen(explicit=None) -> bool:
    """Whether the user named a folder, by `explicit` or by $KUZUSHIJI_DATA (an empty variable counts as unset)."""
    return explicit is not None or bool(os.environ.get(VARIABLE))


def data_folder(explicit=None) -> Path:
    """The data folder: `explicit` (--data) before $KUZUSHIJI_DATA before the user's cache folder."""
    if explicit is not None:
        return Path(explicit).expanduser()
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    return cache_folder()
