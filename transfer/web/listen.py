"""`serve`: opens a socket, warms up the models, and runs uvicorn between them."""

from __future__ import annotations

import socket
import sys

from transfer.inference.loading import load_model
from transfer.system.entry import fail


def listen(host, port, weights, hosts, max_bytes, max_waiting, data=None) -> int:
    """See `transfer.web.serve`."""
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        return fail(
            f"the web page needs the package {error.name}; pip install 'kuzushiji-transfer[serve]'"
        )
    if not 0 <= port <= 65535:
        return fail(f"--port is {port}; give 1 to 65535, or 0 for any free one")
    try:
        # Before the models are loaded: a port that is taken should not cost half a minute.
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return fail(
            f"cannot listen on {host} port {port} ({reason}); choose others with --host and --port"
        )

    from transfer.data import corpus
    from transfer.system.errors import DataError
    from transfer.training.weights import WeightsError
    from transfer.web.server import build

    with listener:
        print("loading the models …", file=sys.stderr, flush=True)
        try:
            found = None if data is None else corpus.load(data)
            model = load_model(weights)
        except (WeightsError, DataError) as error:
            return fail(str(error))
        if found is not None:
            show_images(model, found)
        warm(model)
        name = f"[{host}]" if ":" in host else host
        print(
            f"kuzushiji-transfer is at http://{name}:{listener.getsockname()[1]}/ (Ctrl-C"
            " stops it)",
            flush=True,
        )
        # No access log: it would name who asked for what.
        settings = uvicorn.Config(
            build(model, host=host, hosts=hosts, max_bytes=max_bytes, max_waiting=max_waiting),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            limit_concurrency=8 * max_waiting,
            lifespan="off",
            ws="none",
        )
        try:
            uvicorn.Server(settings).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
    return 0


def show_images(model, found) -> None:
    """From now on, old hands are training images of a corpus instead of painted ones."""
    from transfer.inference.old_hands import TrainingImages

    model.old_hands = TrainingImages(found, model.old_graph, model.old_params)


def warm(model) -> None:
    """Compile whatever the page's first question will need."""
    import numpy as np

    ring = np.hypot(*(np.indices((64, 64)) - 31.5))
    image = np.where(abs(ring - 20) < 2, 255, 0).astype(np.uint8)
    model.transfer(image, samples=10)
    if model.old_hands:
        [result] = model.read(image, top=1)
        model.old_hands.of([character for character, _ in result.candidates], result.z_old)
