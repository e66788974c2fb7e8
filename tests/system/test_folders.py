"""transfer.system.folders: which folder holds the data, and whose files in it are nobody's."""

from pathlib import Path

import platformdirs
import pytest

from transfer.system.errors import DataError
from transfer.system.folders import (
    LEFT_FOLDERS,
    LEFTOVERS,
    VARIABLE,
    cache_folder,
    data_folder,
    is_chosen,
    is_leftover,
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder; no other is named."""

    def user_cache_path(name, appauthor=None):
        assert appauthor is False  # else Windows has a folder of an author between
        return tmp_path / name

    monkeypatch.setattr(platformdirs, "user_cache_path", user_cache_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "kuzushiji"


def test_a_value_counts_before_the_variable_and_that_before_the_cache(cache, monkeypatch):
    assert cache_folder() == cache
    assert data_folder() == cache and not is_chosen()
    monkeypatch.setenv(VARIABLE, "")
    assert data_folder() == cache and not is_chosen()
    assert data_folder("given") == Path("given") and is_chosen("given")
    monkeypatch.setenv(VARIABLE, "~/named")
    assert data_folder() == Path.home() / "named" and is_chosen()
    assert data_folder("given") == Path("given") and is_chosen("given")
    assert data_folder(Path("~/given")) == Path.home() / "given"


def test_an_empty_value_is_a_value(cache):
    assert data_folder("") == Path() and is_chosen("")


def no_home(name, appauthor=None):
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("found", [no_home, lambda *_, **__: Path("~/.cache/kuzushiji")])
def test_a_user_without_a_home_has_no_cache_and_is_told_what_to_give(cache, monkeypatch, found):
    monkeypatch.setattr(platformdirs, "user_cache_path", found)
    assert cache_folder() is None
    with pytest.raises(DataError) as error:
        data_folder()
    assert str(error.value) == (
        "this user has no home folder to keep data in; give --data DIR, or set $KUZUSHIJI_DATA or"
        " XDG_CACHE_HOME to a folder"
    )
    assert data_folder("given") == Path("given")


def test_the_home_of_a_user_who_is_not_there(cache):
    with pytest.raises(DataError) as error:
        data_folder("~nobody-of-this-name/data")
    assert str(error.value) == (
        "~nobody-of-this-name/data: there is no such home folder; write the path without ~"
    )


def test_leftovers_are_known_by_the_name_or_by_a_folder_on_the_way():
    for name in LEFTOVERS:
        for path in (name, name.upper(), f"a/{name}", f"a\\{name}", Path("a") / name):
            assert is_leftover(path), path
    for name in LEFT_FOLDERS:
        for path in (name, f"{name}/a.png", f"a/{name}/b/c.png", f"a\\{name}\\c.png"):
            assert is_leftover(path), path
    assert is_leftover("a/.hidden")
    for path in ("", ".", "a.png", ".hidden/a.png", "thumbs.db/a.png", "a/thumbs.db.png"):
        assert not is_leftover(path), path
