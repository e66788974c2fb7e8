"""Turns a classifier's answers into evaluation.json and report.md of its run, and into one table of
all runs on a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from transfer.evaluation.calibration import bootstrap
from transfer.evaluation.classification import Answers, by_frequency, measure
from transfer.system.files import atomic_write

PUBLISHED = {
    "mnist": {
        "knn": "97.14",
        "cnn": "99.06",
        "preact_resnet18": "99.56",
        "preact_resnet18 input_mixup": "99.54",
        "preact_resnet18 manifold_mixup": "99.54",
    },
    "kmnist": {
        "knn": "91.56 (92.10 on today's files)",
        "cnn": "95.12 (94.63)",
        "preact_resnet18": "97.82",
        "preact_resnet18 input_mixup": "98.41",
        "preact_resnet18 manifold_mixup": "98.83",
    },
    "k49": {
        "knn": "86.01 (83.65)",
        "cnn": "89.25 (89.36)",
        "preact_resnet18": "96.64",
        "preact_resnet18 input_mixup": "97.04",
        "preact_resnet18 manifold_mixup": "97.33",
    },
    "kkanji": {},
}
"""Per cent right on the published test split: arXiv 1812.01718, table 1, and in brackets the
publishers' page. Kuzushiji-49: balanced."""
ORDER = ("knn", "logistic", "mlp", "cnn", "preact_resnet18", "preact_resnet34")


def summarise(cases: Answers, about: dict) -> dict:
    """The content of evaluation.json: about; metrics {name: [estimate, low, high]} with 95 %
    bootstrap intervals over images; overall {name: the same or a number}; groups."""
    measures = measure(cases)
    intervals = {
        name: bootstrap(values, seed=cases.seed) for name, values in measures.per_image.items()
    }
    number = lambda x: round(float(x), 5) if np.isfinite(x) else None
    flat = lambda value: [number(x) for x in value] if isinstance(value, tuple) else number(value)
    return {
        "about": about,
        "metrics": {k: flat(v) for k, v in intervals.items()},
        "overall": {k: flat(v) for k, v in measures.overall.items()},
        "groups": {
            "training images of the class": {
                band: {k: v if isinstance(v, int) else number(v) for k, v in values.items()}
                for band, values in by_frequency(cases).items()
            }
        },
    }


def write(summary: dict, figures: list[tuple[str, str]], out: Path) -> None:
    """evaluation.json and report.md of one run. figures: (file name, caption). Raises OSError."""
    _write(out / "evaluation.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    _write(out / "report.md", markdown(summary, figures))


def write_table(folder: Path, split: str) -> Path:
    """Write report-SPLIT.md and results-SPLIT.json of all evaluated runs in the data set's folder;
    returns the report's path."""
    summaries = [
        json.loads(path.read_text("utf-8"))
        for path in sorted(folder.glob(f"*/evaluation/{split}/evaluation.json"))
    ]
    summaries.sort(
        key=lambda s: (
            ORDER.index(s["about"]["model"]),
            s["about"]["preset"],
            s["about"]["regulariser"],
        )
    )
    _write(
        folder / f"results-{split}.json", json.dumps(summaries, indent=1, ensure_ascii=False) + "\n"
    )
    path = folder / f"report-{split}.md"
    _write(path, table(summaries))
    return path


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, "utf-8")


def title(about: dict) -> str:
    """The run's name in a table."""
    words = [
        about["model"],
        *([about["regulariser"]] if about["regulariser"] != "none" else []),
        *([f"({about['preset']})"] if about["preset"] != "published" else []),
    ]
    return ", ".join(
        [
            " ".join(words),
            *(
                f"{name.replace('_', ' ')} {value}"
                for name, value in about.get("changed", {}).items()
            ),
        ]
    )


def table(summaries: list[dict]) -> str:
    """One row a run, as Markdown."""
    about = summaries[0]["about"]
    dataset = about["dataset"]
    groups = any(len(s["groups"]["training images of the class"]) > 1 for s in summaries)
    lines = [
        f"# {dataset}: {about['split']}",
        "",
        (
            f"{about['train_images']:,} training images, {about['images']:,} test images,"
            f" {about['classes']:,} classes: {about['data']}. In brackets 95 % bootstrap intervals"
            " over the test images. Nothing was chosen by these figures: every row is the last"
            " step of its run."
        ),
        "",
        (
            "| model | right | balanced over classes | as classes occur | in the first five |"
            " cross-entropy, nats | calibration error | parameters | epochs | training | asking |"
            " seed, date | published |"
        ),
        "|---" * 13 + "|",
    ]
    for s in summaries:
        a = s["about"]
        published = (
            PUBLISHED.get(dataset, {}).get(
                f"{a['model']} {a['regulariser']}".removesuffix(" none"), "–"
            )
            if a["preset"] == "published"
            else "–"
        )
        shared = " (not all)" if a["epochs"] and a["epochs"] < a["epochs_published"] else ""
        lines.append(
            f"| {title(a)} | {_percent(s['metrics']['accuracy'])} |"
            f" {_percent(s['overall']['balanced accuracy'])} |"
            f" {_percent(s['overall']['accuracy as classes occur'])} |"
            f" {_percent(s['metrics'].get('top-5'), False)} |"
            f" {'–' if a['model'] == 'knn' else _plain(s['metrics']['cross-entropy'][0])} |"
            f" {_plain(s['overall']['expected calibration error'])} | {a['parameters']:,} |"
            f" {a['epochs']:g}{shared} | {_time(a['training_seconds'])} |"
            f" {_time(a['asking_seconds'])} | {a['seed']}, {a['date']} | {published} |"
        )
    lines += [
        "",
        "*training*, *asking*: wall-clock time on the machine of the run, "
        + "; ".join(sorted({s["about"]["machine"] for s in summaries}))
        + ". *published*: per cent right in arXiv 1812.01718 on the published split, after training"
        " on all of its images.",
        "",
    ]
    if groups:
        bands = sorted(
            {band for s in summaries for band in s["groups"]["training images of the class"]},
            key=lambda b: int(b.split("–")[0].rstrip("+")),
        )
        first = max((s["groups"]["training images of the class"] for s in summaries), key=len)
        head = " | ".join(
            f"{band} ({first[band]['images']:,} images of {first[band]['classes']:,} classes)"
            for band in bands
            if band in first
        )
        for what in ("accuracy", "balanced accuracy"):
            lines += [
                f"## {what.capitalize()} by training images of the class",
                "",
                f"| model | {head} |",
                "|---" * (len(bands) + 1) + "|",
            ]
            lines += [
                f"| {title(s['about'])} | "
                + " | ".join(
                    _percent(s["groups"]["training images of the class"].get(band, {}).get(what))
                    for band in bands
                )
                + " |"
                for s in summaries
            ]
            lines.append("")
    return "\n".join(lines)


def markdown(summary: dict, figures: list[tuple[str, str]]) -> str:
    """One run, with its figures."""
    a = summary["about"]
    lines = [
        f"# {title(a)} on {a['dataset']}",
        "",
        (
            f"{a['data']}; {a['epochs']:g} epochs ({a['steps']:,} steps of {a['batch']:,}), seed"
            f" {a['seed']}; {a['date']}, {a['machine']}."
        ),
        "",
        "| | |",
        "|---|---|",
    ]
    lines += [
        f"| {name} | {_cell(value)} |"
        for name, value in (summary["metrics"] | summary["overall"]).items()
    ]
    for kind, bands in summary["groups"].items():
        lines += [
            "",
            f"| {kind} | images | classes | accuracy | balanced accuracy |",
            "|---" * 5 + "|",
        ]
        lines += [
            f"| {band} | {v['images']:,} | {v['classes']:,} | {_percent(v['accuracy'])} |"
            f" {_percent(v['balanced accuracy'])} |"
            for band, v in bands.items()
        ]
    lines += ["", *(f"![{caption}]({file})\n\n*{caption}*\n" for file, caption in figures)]
    return "\n".join(lines) + "\n"


def _plain(value) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell(value) -> str:
    return (
        f"{_plain(value[0])} [{_plain(value[1])}, {_plain(value[2])}]"
        if isinstance(value, list)
        else _plain(value)
    )


def _percent(value, interval: bool = True) -> str:
    if value is None or isinstance(value, list) and value[0] is None:
        return "–"
    if not isinstance(value, list):
        return f"{100 * value:.2f}"
    return f"{100 * value[0]:.2f}" + (
        f" [{100 * value[1]:.2f}, {100 * value[2]:.2f}]"
        if interval and value[1] is not None
        else ""
    )


def _time(seconds: float) -> str:
    return "–" if not seconds else f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
