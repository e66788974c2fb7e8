"""`kuzushiji-transfer serve`: the web page (transfer.web)."""

from __future__ import annotations

from pathlib import Path

import shtab

from transfer.commands import arguments

EXAMPLES = """  kuzushiji-transfer serve
  kuzushiji-transfer serve --port 8080 --weights runs/small
  kuzushiji-transfer serve --data DIR                    # real old hands beside the candidates
  kuzushiji-transfer serve --name kanji.example.org      # behind a proxy, under any path there
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "serve",
        run,
        "serve the web page",
        "Serve a web page that draws images, until Ctrl-C. Needs the extra: python -m pip install"
        ' ".[serve]"',
        EXAMPLES,
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in [%(default)s]",
    )
    parser.add_argument(
        "--port",
        type=arguments.integer(0, 65535),
        default=8000,
        metavar="N",
        help="0 takes any free one [%(default)s]",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a name under which readers open the page, such as a proxy's; may be repeated",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder: show its nearest training images beside the candidates instead of "
        "painted ones",
    ).complete = shtab.DIRECTORY
    arguments.weights(parser)


def run(chosen) -> int:
    from transfer import web

    return web.serve(chosen.host, chosen.port, chosen.weights, tuple(chosen.name), data=chosen.data)
