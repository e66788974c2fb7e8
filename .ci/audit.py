"""Known vulnerabilities of the packages in constraints.txt, as the package index tells of them
(what `pip-audit` asks it).

    # exit code 1 where there are any, or where the index has no word on a pinned version
    python .ci/audit.py

`pip-audit -r constraints.txt --no-deps --disable-pip --strict` does the same and more wherever the
whole of PyPI can be reached. A mirror that knows each project's latest version only, as some do,
makes it skip every package, and without --strict it then says that there are none. Here the word on
the latest version is taken where that is the one pinned, and the others are named.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
INDEX = "https://pypi.org/pypi"


def ask(path: str) -> dict | None:
    """The index's JSON, or None where it has none."""
    try:
        with urllib.request.urlopen(f"{INDEX}/{path}/json", timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def known(pin: tuple[str, str]) -> list[dict] | str:
    """What is known of a pinned version that was not withdrawn, or why nothing is."""
    name, version = pin
    found = ask(f"{name}/{version}")
    if found is None:
        found = ask(name)
        if found is None:
            return "not on the index"
        if found["info"]["version"] != version:
            return f"only {found['info']['version']} is told of"
    return [v for v in found["vulnerabilities"] if not v.get("withdrawn")]


def main() -> int:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", CONSTRAINTS.read_text("utf-8"), re.MULTILINE)
    with ThreadPoolExecutor(8) as pool:
        try:
            answers = list(pool.map(known, pins))
        except OSError as error:
            print(f"error: {INDEX}: {error}; try again where it can be reached", file=sys.stderr)
            return 2
    vulnerable = unknown = 0
    for (name, version), answer in zip(pins, answers):
        if isinstance(answer, str):
            unknown += 1
            print(f"{name} {version}: {answer}")
            continue
        vulnerable += bool(answer)
        for found in answer:
            print(
                f"{name} {version}: {found['id']} {' '.join(found.get('aliases', []))}, mended in"
                f" {', '.join(found.get('fixed_in', [])) or 'no version'}: {found.get('link', '')}"
            )
    print(
        f"{len(pins)} packages: {len(pins) - unknown} looked up, {vulnerable} with known"
        f" vulnerabilities, {unknown} of which nothing is known"
    )
    return 1 if vulnerable or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
