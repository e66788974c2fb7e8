"""Command line of the data package: python -m data prepare | info | split."""
import argparse
import sys
from pathlib import Path

from . import corpus, folder, kanjivg, splits
from .errors import DataError
from .prepare import prepare


def describe(manifest: dict) -> str:
    """The manifest's sources and counts as lines of text."""
    lines = [f"{name}: {s['bytes']:,} bytes, sha256 {s['sha256']}" for name, s in manifest["sources"].items()]
    for title, part in (("Kuzushiji-Kanji", "old"), ("KanjiVG", "new")):
        counts = manifest["counts"][part]
        lines.append(f"{title}: " + ", ".join(f"{v:,} {k}" for k, v in counts.items() if not isinstance(v, dict)))
        lines += [f"  {k:<10}{v['images']:>8,} images{v['classes']:>7,} classes"
                  for k, v in counts.items() if isinstance(v, dict)]
    return "\n".join(lines)


def _prepare(args) -> None:
    where = prepare(folder.data_folder(args.data))
    print(f"prepared: {where}")
    print(describe(corpus.load(where.parent, quiet=True).manifest))


def _info(args) -> None:
    loaded = corpus.load(args.data)
    print(f"{'sample corpus' if loaded.is_sample else 'data'}: {loaded.folder}")
    print(describe(loaded.manifest))


def _split(args) -> None:
    shipped = splits.read_lists() if not (args.listing and args.test) else {}
    listing = splits.read_names(args.listing) if args.listing else set().union(*shipped.values())
    test = splits.read_names(args.test) if args.test else shipped["test"]
    glyphs = {g.code_point for g in kanjivg.read(args.kanjivg) if not g.variant}
    lists = splits.split_published(listing, test, glyphs)
    if args.check:
        for name, names in splits.read_lists().items():
            if names != lists[name]:
                raise DataError(f"{splits.PUBLISHED}: {name} differs in {len(names ^ lists[name])} names; "
                                "run the command without --check")
    else:
        splits.write_lists(lists)
    for name, names in lists.items():
        print(f"  {name:<10}{len(names):>8,} images{len({splits.class_of(n) for n in names}):>7,} classes")


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data", description="Prepare and describe the data.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (("prepare", _prepare, "turn the published files into arrays, once"),
                            ("info", _info, "show what the data folder holds"),
                            ("split", _split, "write, or --check, the published splits of this package")):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if name != "split":
            command.add_argument("--data", metavar="DIR", type=Path,
                                 help=f"the data folder (else ${folder.VARIABLE}, else {folder.cache_folder()})")
        else:
            command.add_argument("--kanjivg", required=True, type=Path, help="kanjivg-20260513.xml.gz")
            command.add_argument("--listing", type=Path, help="names of all published files (else the shipped ones)")
            command.add_argument("--test", type=Path, help="names of the test files (else the shipped ones)")
            command.add_argument("--check", action="store_true", help="write nothing; fail if the lists differ")
    args = parser.parse_args(arguments)
    try:
        args.run(args)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
