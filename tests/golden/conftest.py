"""Compares the golden files with today's results; `--write-golden` writes them again."""

import json
from pathlib import Path

import jax
import pytest

FILES = Path(__file__).parent / "files"


@pytest.fixture(autouse=True, scope="module")
def as_users_compile():
    """Programs that round as they do outside of tests."""
    name = "jax_disable_most_optimizations"
    kept = jax.config.values[name]
    jax.config.update(name, False)
    yield
    jax.config.update(name, kept)


@pytest.fixture(scope="session")
def writing(request) -> bool:
    return request.config.getoption("--write-golden")


@pytest.fixture(scope="session")
def golden(writing):
    """A function from a name and what came out, as JSON has it, to what is kept under that name."""

    def kept(name: str, found: dict) -> dict:
        path = FILES / f"{name}.json"
        if writing:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
                for key, value in found.items()
            ]
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    return kept
