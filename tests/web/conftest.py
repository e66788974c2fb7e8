"""The shipped weights behind a server on a free port, and pictures to send to it."""

import socket
import threading
import time
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))


@pytest.fixture(scope="session")
def model():
    from transfer import KuzushijiTransfer
    from transfer.web.listen import warm

    found = KuzushijiTransfer.load()
    warm(found)  # here, so that no test's patience is spent on compiling
    return found


@pytest.fixture(scope="session")
def address(model):
    """(host, port) of a real server."""
    with Serving(model) as found:
        yield found


@pytest.fixture(scope="session")
def serving():
    return Serving


@pytest.fixture(scope="session")
def examples() -> list[bytes]:
    """The eight example files."""
    return [path.read_bytes() for path in EXAMPLES]


class Serving:
    """`with Serving(model, **options) as (host, port)`: uvicorn in a thread."""

    def __init__(self, model, **options):
        import uvicorn

        from transfer.web import app

        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(
            uvicorn.Config(
                app(model, **options), log_level="warning", lifespan="off", access_log=False
            )
        )
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        return self.listener.getsockname()

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)
        self.listener.close()
