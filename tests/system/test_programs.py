"""transfer.system.programs: what is compiled is kept, and never taken for something else."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from transfer.system import programs
from transfer.system.programs import Program

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def double():
    return lambda tree, x: {"sum": jnp.tanh(tree["w"] @ x).sum(0), "all": jnp.maximum(x, 0) * 2}


def never():
    raise AssertionError("it was to be taken from the cache")


@pytest.fixture
def cache(tmp_path):
    """A cache of JAX in a folder of the test's own; where programs lie in it."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def call(build, about="", name="double", x=X):
    return Program(name, build, about)({"w": np.ones((2, len(x)), np.float32)}, x)


def same(found) -> bool:
    plain = double()({"w": np.ones((2, 3), np.float32)}, X)
    return all(np.allclose(found[k], plain[k], atol=1e-6) for k in plain)


def test_a_program_is_taken_from_the_cache_without_being_built(cache):
    assert same(call(double)) and same(call(never)) and len(list(cache.iterdir())) == 1


def test_what_jax_has_in_its_own_cache_can_be_kept_too(cache):
    """XLA cannot give away again what it has from there."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.jit(double())({"w": np.ones((2, 3), np.float32)}, X)
    jax.clear_caches()
    assert same(call(double)) and same(call(never))


@pytest.mark.parametrize("changed", ["about", "name", "form", "code", "settings"])
def test_another_program_is_not_taken(cache, changed, monkeypatch):
    call(double)
    named = {}
    if changed == "about":
        named["about"] = "units=2"
    elif changed == "name":
        named["name"] = "treble"
    elif changed == "form":
        named["x"] = np.ones((3, 5), np.float32)
    elif changed == "code":
        monkeypatch.setattr(programs, "surroundings", lambda: "one line is another")
    else:
        monkeypatch.setattr(programs, "_settings", lambda: "jax_default_matmul_precision=bfloat16")
    with pytest.raises(AssertionError, match="from the cache"):
        call(never, **named)


def test_a_setting_of_jax_makes_another_program():
    plain = programs._settings()
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    try:
        assert programs._settings() != plain
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert programs._settings() == plain


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_compiled_again(cache, damage):
    call(double)
    [path] = cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-7] if damage is None else damage)
    assert same(call(double)) and same(call(never))
    assert len(path.read_bytes()) == len(content)


def test_without_a_cache_or_where_it_cannot_be_written(cache):
    cache.write_text("a file is where the folder should be")
    assert same(call(double)) and cache.is_file()
    jax.config.update("jax_compilation_cache_dir", None)
    assert same(call(double))


def test_those_that_were_used_last_are_kept(cache, monkeypatch):
    monkeypatch.setattr(programs, "KEPT", 2)
    for number in range(4):
        call(double, about=str(number))
    assert len(list(cache.iterdir())) == 2
    assert same(call(never, about="3"))


def test_threads_that_ask_at_once_build_once(cache):
    built = []
    program = Program("once", lambda: built.append(1) or double(), "")
    ask = lambda: program({"w": np.ones((2, 3), np.float32)}, X)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1] and len(program) == 1
    assert jax.config.jax_enable_compilation_cache
