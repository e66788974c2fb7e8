"""What the project needs, from the environment this runs in: constraints.txt (exact versions) and
docs/licences.md.

    python .ci/dependencies.py            # write both; run it where the tests have passed
    # exit code 1 where they name other packages than the project needs
    python .ci/dependencies.py --check

Only what pyproject.toml asks for, its extras and what those ask for in turn is listed, not whatever
else is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS, LICENCES = ROOT / "constraints.txt", ROOT / "docs" / "licences.md"
# Extras that nothing else here needs: a machine's own PyTorch, a decoder, and a converter that asks
# for an older orbax-checkpoint than the rest is tested with.
LEFT_OUT = {"benchmark", "export", "heic"}
# Stated by the projects, but not in their packages' metadata.
KNOWN = {"atheris": "Apache-2.0", "resvg-py": "MIT"}  # their licence files


def needed() -> dict[str, metadata.Distribution]:
    """The packages, by canonical name, that the project and its extras need here, installed ones
    only; and the marker-free closure of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    for extra, texts in project["optional-dependencies"].items():
        waiting += [Requirement(text) for text in texts] if extra not in LEFT_OUT else []
    found, seen = {}, set()
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (
            key in seen
            or wanted.marker
            and not any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))
        ):
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            raise SystemExit(
                f"{wanted} is not installed here; pip install '.[serve,evaluate,test,notebooks]'"
                " first"
            ) from None
        found[key[0]] = distribution
        for text in distribution.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)
            ):
                requirement.marker = None
                waiting.append(requirement)
    return dict(sorted(found.items()))


def licence(distribution: metadata.Distribution) -> str:
    """A package's own word: its SPDX expression, else its classifiers, else the first line of its
    License field."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return expression
    named = [
        text.rpartition(" :: ")[2]
        for text in about.get_all("Classifier", [])
        if text.startswith("License :: ") and text.count(" :: ") > 1
    ]
    if named:
        return ", ".join(sorted(set(named)))
    return KNOWN.get(
        canonicalize_name(about["Name"]),
        (about.get("License") or "not stated").strip().splitlines()[0][:60],
    )


def home(distribution: metadata.Distribution) -> str:
    addresses = dict(
        text.partition(", ")[::2] for text in distribution.metadata.get_all("Project-URL", [])
    )
    lower = {name.lower(): address for name, address in addresses.items()}
    for name in ("homepage", "home", "source", "repository", "source code", "github", "code"):
        if name in lower:
            return lower[name]
    return distribution.metadata.get("Home-page") or next(
        iter(addresses.values()), f"https://pypi.org/project/{distribution.metadata['Name']}/"
    )


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--check", action="store_true", help="write nothing")
    chosen = options.parse_args()
    packages = needed()
    if chosen.check:
        listed = {
            canonicalize_name(line.partition("==")[0])
            for line in CONSTRAINTS.read_text("utf-8").splitlines()
            if line and not line.startswith("#")
        }
        differing = sorted(listed ^ set(packages))
        if differing:
            print(
                f"constraints.txt is not what the project needs: {', '.join(differing)}; run python"
                " .ci/dependencies.py",
                file=sys.stderr,
            )
        return 1 if differing else 0
    python = ".".join(map(str, sys.version_info[:3]))
    lines = [
        (
            f"# Versions with which all tests passed, Python {python}, {sys.platform}: pip install"
            " -c constraints.txt '.[test]'"
        ),
        "# Written by .ci/dependencies.py",
        *(f"{name}=={found.version.partition('+')[0]}" for name, found in packages.items()),
    ]
    CONSTRAINTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [
        f"| [{name}]({home(found)}) | {found.version.partition('+')[0]} |"
        f" {re.sub('[|]', '/', licence(found))} |"
        for name, found in packages.items()
    ]
    LICENCES.write_text(
        "\n".join(
            [
                "# Licences of what this project is built on",
                "",
                (
                    "None of these packages is in this repository; pip installs them. The table"
                    " shows what each says of its"
                ),
                (
                    "licence, in the versions of `constraints.txt`, for the package and all extras"
                    " but `benchmark`, `export` and"
                ),
                "`heic`. `.ci/dependencies.py` writes this page.",
                "",
                "| package | version | licence |",
                "|---|---|---|",
                *rows,
            ]
        )
        + "\n",
        encoding="utf-8",
    )
    print(f"{len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
