"""Command line of the data sets: python -m transfer.data list | download | prepare | fonts |
hands | info | split | leaks | convert."""

import argparse
import sys
from functools import partial
from pathlib import Path

from transfer.data import corpus, splits
from transfer.data.formats import command as conversion
from transfer.data.prepare import prepare
from transfer.data.published import catalogue, kanjivg
from transfer.system import folders
from transfer.system.entry import guarded
from transfer.system.errors import DataError


def describe(manifest: dict) -> str:
    """The manifest's sources and counts as lines of text."""
    lines = [
        f"{name}: {s['bytes']:,} bytes, sha256 {s['sha256']}"
        for name, s in manifest["sources"].items()
    ]
    for title, part in (("Kuzushiji-Kanji", "old"), ("KanjiVG", "new")):
        counts = manifest["counts"][part]
        lines.append(
            f"{title}: "
            + ", ".join(f"{v:,} {k}" for k, v in counts.items() if not isinstance(v, dict))
        )
        lines += [
            f"  {k:<10}{v['images']:>8,} images{v['classes']:>7,} classes"
            for k, v in counts.items()
            if isinstance(v, dict)
        ]
    return "\n".join(lines)


def _list(args) -> None:
    from transfer.data.info import listing

    where = folders.data_folder(args.data)
    print("\n".join(listing(where, args.release)))
    print(f"data folder: {where}")


def _download(args) -> None:
    from transfer.data.published import download

    where = folders.data_folder(args.data)
    files = (
        catalogue.choose(args.names, args.format, args.release)
        if args.names
        else _ask(args.release)
    )
    if args.source is not None:
        return _take(files, args.source, where)
    for file in files:
        path = download.fetch(
            file,
            where,
            args.mirror,
            progress=not args.quiet,
            timeout=args.timeout,
            say=lambda text: print(f"  {text}; trying the next address", file=sys.stderr),
        )
        print(path)


def _take(files, source: Path, where: Path) -> None:
    from transfer.data.published import download

    if source.is_file():
        # a browser may have called it "kkanji (1).tar": then the one file that was asked for is
        # meant
        chosen = [f for f in files if f.name == source.name] or (files if len(files) == 1 else [])
        pairs = [(f, source) for f in chosen]
    elif source.is_dir():
        pairs = [(f, p) for f in files if (p := download.find(source, f))]
    else:
        raise DataError(
            f"{source}: no such file or folder; give --from the place of the files that you have"
        )
    if not pairs:
        raise DataError(
            f"{source}: none of {', '.join(f.name for f in files)} is there; "
            "`python -m transfer.data list` shows the names"
        )
    for file, path in pairs:
        print(download.take(file, path, where))
    if absent := [f.name for f in files if f not in [p[0] for p in pairs]]:
        print(f"not in {source}: {', '.join(absent)}", file=sys.stderr)


def _ask(release: str) -> list:
    """Ask for the data set and its format by number, as the publishers' own script does."""
    if not sys.stdin.isatty():
        raise DataError(
            "download: no data set named, and no terminal to ask on; give one or more of "
            f"{', '.join(catalogue.NAMES)}, all"
        )
    name = _choice({n: catalogue.TITLES[n] for n in catalogue.NAMES} | {"all": "All of them"})
    formats = catalogue.FORMATS.get(name, {})
    return catalogue.choose([name], _choice(formats) if len(formats) > 1 else None, release)


def _choice(options: dict[str, str]) -> str:
    print("Please choose what to download:")
    for number, text in enumerate(options.values(), 1):
        print(f"{number}) {text}")
    while True:
        try:
            answer = input("> ").strip()
        except EOFError:
            raise DataError("download: nothing was chosen") from None
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(options):
            return list(options)[int(answer) - 1]
        print(f"Please give a number from 1 to {len(options)}.")


def _prepare(args) -> None:
    where = prepare(folders.data_folder(args.data))
    print(f"prepared: {where}")
    print(describe(corpus.load(where.parent, quiet=True).manifest))


def _published(folder: Path | None, command: str) -> corpus.Corpus:
    loaded = corpus.load(folder)
    if loaded.is_sample:
        raise DataError(
            f"{command}: there is only the built-in sample corpus; prepare the real data first and"
            " name it with --data"
        )
    return loaded


def _fonts(args) -> None:
    from transfer.data.writing import fonts

    loaded = _published(args.data, "fonts")
    where = fonts.prepare(loaded.folder, args.fonts, loaded.new.writable(), args.licence)
    found = fonts.load(loaded.folder)
    for number, record in enumerate(found.records):
        kept = "" if record["role"] == "train" else f", kept out of training ({record['role']})"
        print(
            f"{record['name']}: {(found.font == number).sum():,} characters,"
            f" {record['licence']}{kept}"
        )
    print(f"drawn: {where}")


def _hands(args) -> None:
    from transfer.data.writing import hands

    loaded = _published(args.data, "hands")
    where = hands.prepare(loaded.folder, loaded.new, loaded.new.writable(), args.each, args.seed)
    written = hands.load(loaded.folder)
    print(f"{len(written.images):,} images of {written.source['characters']:,} characters: {where}")


def _info(args) -> None:
    if args.name:
        from transfer.data.info import lines

        print("\n".join(lines(args.name, folders.data_folder(args.data))))
        return
    loaded = corpus.load(args.data)
    print(f"{'sample corpus' if loaded.is_sample else 'data'}: {loaded.folder}")
    print(describe(loaded.manifest))


def _split(args) -> None:
    if args.kanjivg:
        lists = _split_again(args)
    elif args.listing or args.test:
        raise DataError(
            "split: --listing and --test need --kanjivg FILE, whose characters the rule asks for"
        )
    elif args.check is not None:
        lists = splits.check_copy(args.check)
        print(f"as published: {args.check}")
    else:
        lists = splits.check_copy()
        print(f"the published lists: {splits.PUBLISHED}")
        if args.out:
            splits.write_lists(splits.read_lists(), args.out)
            print(f"copied to: {args.out}")
    for name, names in lists.items():
        print(
            f"  {name:<10}{len(names):>8,} images{len({splits.class_of(n) for n in names}):>7,}"
            " classes"
        )


def _split_again(args) -> dict:
    """Apply the rule again, and compare the result with the shipped lists, or write new ones."""
    shipped = splits.read_lists() if not (args.listing and args.test) else {}
    listing = splits.read_names(args.listing) if args.listing else set().union(*shipped.values())
    test = splits.read_names(args.test) if args.test else shipped["test"]
    glyphs = {g.code_point for g in kanjivg.read(args.kanjivg) if not g.variant}
    lists = splits.split_published(listing, test, glyphs)
    if args.check is None:
        splits.write_lists(lists, args.out or splits.PUBLISHED)
        return lists
    for name, names in splits.read_lists(args.check).items():
        if names != lists[name]:
            raise DataError(
                f"{args.check}: {name} differs in {len(names ^ lists[name])} names; "
                "run the command without --check"
            )
    return lists


def _leaks(args) -> None:
    from tqdm import tqdm

    from transfer.data import leaks

    loaded = corpus.load(args.data)
    if args.control:
        for way, scores in leaks.controls(loaded.old).items():
            print(
                f"{len(scores)} images {way}: "
                + ", ".join(
                    f"{(scores >= t).mean():.1%} score {t:.2f} or more"
                    for t in sorted({args.threshold, 0.90, 0.95})
                )
            )
        return
    with tqdm(desc="leaks", disable=None, file=sys.stderr, leave=False) as bar:

        def show(done, total):
            bar.total = total
            bar.update(done - bar.n)

        pairs, searched = leaks.search(loaded.old, threshold=args.threshold, progress=show)
    if args.out:
        leaks.write(pairs, args.out)
    for split, images in searched.items():
        scores = [p.score for p in pairs if p.split == split]
        print(
            f"{split}: {images:,} images searched, look-alikes in train: "
            + ", ".join(
                f"{sum(s >= t for s in scores):,} of score {t:.2f} or more"
                for t in sorted({args.threshold, 0.90, 0.95})
                if t >= args.threshold
            )
        )
    for p in pairs[: args.show]:
        print(f"  {p.score:.3f}  {p.name}  {p.train_name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transfer.data",
        description="Get, check, prepare and describe the data.",
        epilog=(
            "Begin with `python -m transfer.data download kkanji kanjivg`, then "
            "`python -m transfer.data prepare`. data/README.md tells you more."
        ),
    )
    commands = parser.add_subparsers(metavar="COMMAND")

    cache = folders.cache_folder() or folders.CACHELESS

    def command(name, run, text, data=True, release=False):
        out = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        out.set_defaults(run=run)
        if data:
            out.add_argument(
                "--data",
                metavar="DIR",
                type=Path,
                help=f"data folder (default: ${folders.VARIABLE}, or else {cache})",
            )
        if release:
            out.add_argument(
                "--release",
                metavar="YYYYMMDD",
                default=catalogue.RELEASE,
                help=f"KanjiVG's release (default: {catalogue.RELEASE})",
            )
        return out

    command("list", _list, "list every published file, and show which ones you have", release=True)

    get = command(
        "download",
        _download,
        "download published files, checked, or take those that you have",
        release=True,
    )
    get.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help=f"{', '.join(catalogue.NAMES)}, all, or a file's name; without one the command asks",
    )
    formats = dict.fromkeys(f for forms in catalogue.FORMATS.values() for f in forms)
    get.add_argument(
        "--format",
        choices=[*formats, "all-formats"],
        help="format, if a data set has several (default: npz, and KanjiVG's -all.zip)",
    )
    get.add_argument(
        "--mirror",
        metavar="URL",
        action="append",
        default=[],
        help="address of a folder or file to try before the known ones; may be repeated",
    )
    get.add_argument(
        "--from",
        metavar="PATH",
        dest="source",
        type=Path,
        help="take the files from here instead: a file or a folder",
    )
    get.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long to wait for a server (default: 30)",
    )
    get.add_argument("--quiet", action="store_true", help="show no progress bars")

    command("prepare", _prepare, "turn the published files into arrays, once")

    fonts = command(
        "fonts",
        _fonts,
        "draw every kanji and hiragana with brush and pen fonts, as more images to train on",
    )
    fonts.add_argument(
        "fonts",
        metavar="FONT",
        nargs="+",
        type=Path,
        help="a .ttf, .otf or .woff2 file, or a Fontsource package (.tgz or unpacked)",
    )
    fonts.add_argument(
        "--licence",
        metavar="NAME",
        help="licence of font files that have no licence file beside them",
    )

    hands = command(
        "hands", _hands, "write every kanji with simulated brushes, as more images to train on"
    )
    hands.add_argument(
        "--each",
        metavar="N",
        type=int,
        default=16,
        help="images of each character (default: %(default)s)",
    )
    hands.add_argument(
        "--seed", type=int, default=0, help="another seed gives other hands (default: %(default)s)"
    )

    info = command("info", _info, "show what the data folder holds")
    info.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        choices=catalogue.NAMES,
        help=f"data set to count, of {', '.join(catalogue.NAMES)} (default: what is prepared)",
    )

    split = command(
        "split",
        _split,
        "show the published splits, copy them, check a copy, or apply their rule again",
        data=False,
    )
    split.add_argument(
        "--check",
        metavar="PATH",
        nargs="?",
        const=splits.PUBLISHED,
        type=Path,
        help=(
            "fail if the names in this folder or file differ from the published ones (default: the"
            " package's own)"
        ),
    )
    split.add_argument("--out", metavar="DIR", type=Path, help="write the lists into this folder")
    split.add_argument(
        "--kanjivg",
        metavar="FILE",
        type=Path,
        help="apply the rule again with kanjivg-20260513.xml.gz",
    )
    split.add_argument(
        "--listing",
        metavar="FILE",
        type=Path,
        help="names of all files (default: the shipped list)",
    )
    split.add_argument(
        "--test",
        metavar="FILE",
        type=Path,
        help="names of the test files (default: the shipped list)",
    )

    leaks = command("leaks", _leaks, "search val and test for images that are in train as well")
    leaks.add_argument(
        "--threshold",
        metavar="R",
        type=float,
        default=0.85,
        help="lowest correlation of a pair (default: 0.85)",
    )
    leaks.add_argument(
        "--control",
        action="store_true",
        help="instead, make true duplicates and measure how they score",
    )
    leaks.add_argument("--out", metavar="CSV", type=Path, help="write the pairs here")
    leaks.add_argument(
        "--show", metavar="N", type=int, default=20, help="print the N best pairs (default: 20)"
    )

    conversion.add_parser(commands)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError("give seconds between 0 and 3600")
    return value


@partial(guarded, stopped="stopped; run the same command to continue")
def main(arguments=None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input (one line on stderr), 130
    after Ctrl-C."""
    parser = _parser()
    args = parser.parse_args(arguments)
    args.run(args) if "run" in args else parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
