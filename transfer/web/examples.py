"""The pictures that come with the page."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

STATIC = Path(__file__).parent / "static"


def examples() -> list[dict]:
    """The pictures of `static/examples`, named `<reading>_U+<code point>.png`."""
    found = []
    for path in sorted((STATIC / "examples").glob("*.png")):
        name, _, code_point = path.stem.partition("_")
        found.append(
            {
                "kanji": chr(int(code_point[2:], 16)),
                "code_point": code_point,
                "name": name,
                "url": f"static/examples/{quote(path.name)}",
            }
        )
    return found
