"""Write the pages that are made of other files: docs/reference/commands.md of the commands' own
help, docs/reference/api.md of signatures and docstrings, and docs/glossary.md of the words that the
web page shows.

    python experiments/make_reference.py

Run it after a change of a help text or of a public docstring; a test compares the pages. It takes
some seconds. For all other modules there is `python -m pdoc transfer`.
"""

import argparse
import ast
import importlib
import inspect
import json
import os
import re
import sys
import textwrap
from pathlib import Path

from transfer.system.entry import guarded
from transfer.system.files import atomic_write
from transfer.system.folders import CACHELESS, cache_folder

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs"
GLOSSARY = ROOT / "transfer" / "web" / "static" / "strings" / "glossary.js"
MADE = "<!-- Made by `python experiments/make_reference.py`; edit the source, not this page. -->"
EXAMPLES = {
    "draw": "examples/hana_U+82B1.png --samples 1 --format svg,json --out runs/drawings",
    "candidates": "examples/hana_U+82B1.png examples/kami_U+795E.png --top 3",
    "brush": "花 --samples 3 --weights runs/tiny --out runs/brushed",
    "serve": "--port 8321",
    "train": "--preset tiny --runs runs/tiny",
    "evaluate": "--split val --limit 8 --samples 1 --out runs/evaluation",
    "export": "runs/onnx",
    "data": "list",
    "info": "--json",
    "completion": "bash",
}
"""One command line of each command, which tests/test_reference.py checks or runs."""
API = {
    "transfer": ("KuzushijiTransfer", "Result"),
    "transfer.inference.images": ("read_image", "load_image", "Reading", "ImageError"),
    "transfer.data.corpus": ("load", "Corpus", "Old", "New"),
    "transfer.data.strokes": (
        "to_stroke3",
        "from_stroke3",
        "to_stroke5",
        "from_stroke5",
        "simplify",
        "resample",
    ),
}
"""Module -> its public names, in the order of the page."""


def commands_page() -> str:
    """Markdown of all commands: an example and the help of each."""
    from transfer.cli import parser
    from transfer.data.__main__ import _parser as data_parser

    os.environ["COLUMNS"] = "120"
    parts = [
        "# Commands",
        MADE,
        "Each command prints its page with `--help`. Errors are one line on stderr, with exit code"
        " 2. Ctrl-C\nends with exit code 130. The [API](api.md) does the same in Python.",
    ]
    for name, command in subcommands(parser()).items():
        line = f"kuzushiji-transfer {name} {EXAMPLES[name]}"
        parts += [f"## {name}", f"```bash\n{line}\n```", f"```text\n{plain(command)}\n```"]
        deeper = subcommands(data_parser()) if name == "data" else {}
        for inner, own in deeper.items():
            parts += [f"### {name} {inner}", f"```text\n{plain(own)}\n```"]
    return "\n\n".join(parts) + "\n"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Name -> parser of a parser's commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def plain(parser: argparse.ArgumentParser) -> str:
    """A parser's help without colours, spaces at the ends of lines, and this machine's cache."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", parser.format_help())
    text = text.replace(str(cache_folder() or CACHELESS), "~/.cache/kuzushiji")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def api_page() -> str:
    """Markdown of the public names: signatures and docstrings."""
    parts = [
        "# API",
        MADE,
        "These are the names that a program needs. Their types are checked (`py.typed`). `python -m"
        " pdoc transfer`\nopens the pages of all modules. The [commands](commands.md) do the same"
        " in a terminal.",
    ]
    for module_name, names in API.items():
        module = importlib.import_module(module_name)
        parts += [f"## {module_name}", markdown(inspect.getdoc(module))]
        for name in names:
            found = getattr(module, name)
            parts += [f"### {name}", f"```python\nfrom {module_name} import {name}\n```"]
            if inspect.isclass(found):
                parts.append(markdown(found.__doc__))
                for key, member in vars(found).items():
                    if not key.startswith("_") and (text := documented(member)):
                        shown = signature(member) if callable_of(member) else key
                        parts += [f"#### {name}.{key}", f"```python\n{shown}\n```", markdown(text)]
            else:
                parts += [f"```python\n{signature(found)}\n```", markdown(found.__doc__)]
    return "\n\n".join(filter(None, parts)) + "\n"


def callable_of(member):
    """The function behind a method, or None for a property."""
    member = getattr(member, "__func__", member)
    return inspect.unwrap(member) if callable(member) else None


def documented(member) -> str:
    """The docstring of a class's method or property, or ""."""
    if isinstance(member, property):
        return member.__doc__ or ""
    function = callable_of(member)
    return (function.__doc__ or "") if inspect.isfunction(function) else ""


def signature(function) -> str:
    """As the source has it, without `self`, the same under every version of Python."""
    source = textwrap.dedent(inspect.getsource(callable_of(function)))
    node = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    arguments = node.args
    arguments.args = [a for a in arguments.args if a.arg not in ("self", "cls")]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({ast.unparse(arguments)}){returns}"
    if len(line) <= 100:
        return line
    inside = ",\n".join(f"    {part}" for part in split_arguments(ast.unparse(arguments)))
    return f"{node.name}(\n{inside},\n){returns}"


def split_arguments(text: str) -> list[str]:
    """The arguments of a signature, split at the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown: lines `name: …` become a list, examples become code."""
    blocks = []
    for paragraph in re.split(r"\n{2,}", inspect.cleandoc(docstring or "")):
        if paragraph.startswith(">>> "):
            blocks.append(f"```python\n{paragraph}\n```")
            continue
        lines = []
        for line in paragraph.splitlines():
            found = re.match(r"((?:\.?[a-z_][a-z_0-9]*)(?:, \.?[a-z_][a-z_0-9]*)*): (.*)", line)
            first = not lines or lines[0].startswith("- ")
            if found and first:
                names = ", ".join(f"`{name}`" for name in found[1].split(", "))
                lines.append(f"- {names}: {found[2]}")
            else:
                lines.append(f"  {line}" if lines and lines[0].startswith("- ") else line)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def glossary() -> list[dict[str, dict[str, str]]]:
    """The words that the web page shows: of each the term and the meaning, in "en" and "ja"."""
    return json.loads(GLOSSARY.read_text("utf-8").partition("export default ")[2].rstrip(";\n"))


def glossary_page() -> str:
    """Markdown of the glossary: a row a word."""
    code = lambda text: re.sub(r"\b(z_old|z_new)\b", r"`\1`", text, flags=re.A)
    cells = [
        [code(word[tag][name]) for tag in ("en", "ja") for name in ("term", "meaning")]
        for word in glossary()
    ]
    rows = [["English", "meaning", "日本語", "意味"], ["---"] * 4, *cells]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"# Glossary\n\n{MADE}\n\nThe web page shows the same words at its foot.\n\n{table}\n"


PAGES = {
    "reference/commands.md": commands_page,
    "reference/api.md": api_page,
    "glossary.md": glossary_page,
}
"""File name -> what makes its Markdown."""


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="[docs]")
    out = parser.parse_args().out
    for name, text in {name: made() for name, made in PAGES.items()}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out / name) as part:
            part.write_text(text, encoding="utf-8")
        print(out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
