"""Writes the measures of all evaluators to evaluation.json and report.md: means with bootstrap
intervals, groups, and the authors' figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from transfer.evaluation.calibration import bootstrap
from transfer.evaluation.cases import Cases, Measures
from transfer.system.files import atomic_write

AUTHORS = {
    "recogniser: true glyph": (0.998, None, None),
    "recogniser: single drawing": (0.140, 0.174, 0.197),
    "recogniser: best of 10": (0.304, None, None),
    "recogniser: mean probability of 10": (0.222, 0.300, 0.326),
    "HOG: predicted pixels": (0.146, None, None),
    "HOG: single drawing": (0.130, None, None),
    "HOG: new VAE of the true glyph": (0.880, None, None),
    "HOG: Kuzushiji image itself": (0.054, None, None),
    "stroke count exact": (0.225,),
    "stroke count within 1": (0.411,),
    "stroke count error": (2.66,),
    "different kanji among 10 drawings": (7.7,),
}
"""Our measurement of the published outputs of Clanuwat et al. 2018 on their 1,828 test images, with
another recogniser (ceiling .998)."""

CROSS_FITTED = (
    " The density's exponents and calibration were fitted on this split, so here each half of it is"
    " read with those that are fitted on the other half."
)
FREQUENCY = ((0, 0), (1, 4), (5, 9), (10, 49), (50, 199), (200, None))
STROKES = ((1, 4), (5, 8), (9, 12), (13, 16), (17, None))
GROUPED = (
    "candidates, top-1",
    "candidates, top-10",
    "candidates, any form, top-1",
    "candidates, any form, top-10",
    'called "sure"',
    '"sure" readings right',
    "recogniser: predicted pixels, top-1",
    "recogniser: single drawing, top-1",
    "recogniser: best-ranked drawing, top-1",
    "HOG: predicted pixels, top-1",
    "HOG: best-ranked drawing, top-1",
    "stroke count exact",
    "classify, then look up: answer, top-1",
)


def summarise(cases: Cases, measures: list[Measures], about: dict) -> dict:
    """Everything as one dict for JSON: about, metrics {name: [mean, low, high, n]}, overall, groups
    {kind: {band: {name: mean, n}}}.

    Intervals are 95 % percentile bootstraps over images.
    """
    per_image = {k: v for m in measures for k, v in m.per_image.items()}
    metrics = intervals(per_image, cases.seed)
    overall = {
        k: [_number(x) for x in v] if isinstance(v, tuple) else _number(v)
        for m in measures
        for k, v in m.overall.items()
    }
    groups = {}
    for kind, key, bands in (
        ("training images of the class", cases.train_count, FREQUENCY),
        ("strokes of the kanji", np.array([len(t) for t in cases.truth]), STROKES),
    ):
        groups[kind] = {}
        for low, high in bands:
            inside = (key >= low) & (key <= (high if high is not None else key.max(initial=0)))
            if inside.any():
                name = str(low) if high == low else f"{low}+" if high is None else f"{low}–{high}"
                groups[kind][name] = {"n": int(inside.sum())} | {
                    m: _mean(per_image[m][inside]) for m in GROUPED if m in per_image
                }
    if cases.sources is not None and len(names := sorted(set(cases.sources.tolist()))) > 1:
        groups["source"] = {
            name: {"n": int((inside := cases.sources == name).sum())}
            | {m: _mean(per_image[m][inside]) for m in GROUPED if m in per_image}
            for name in names
        }
    return {"about": about, "metrics": metrics, "overall": overall, "groups": groups}


def intervals(per_image: dict[str, np.ndarray], seed: int = 0) -> dict[str, list]:
    """Name -> [mean, low, high, n] of values (N,): a 95 % percentile bootstrap over images, and to
    how many of them the metric applies. None stands for NaN."""
    return {
        name: [*map(_number, bootstrap(values, seed=seed)), int(np.isfinite(values).sum())]
        for name, values in per_image.items()
    }


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return _number(known.mean()) if len(known) else None


def _number(value) -> float | int | None:
    if isinstance(value, int):
        return value
    return None if value is None or not np.isfinite(value) else round(float(value), 5)


def markdown(summary: dict, figures: list[tuple[str, str]]) -> str:
    """The report as Markdown. figures: (file name, caption)."""
    metrics, about = summary["metrics"], summary["about"]
    k, reader = about["samples"], about["reader"]
    hog_head = "" if reader == "HOG" else "HOG top-1 | "
    hog = lambda name: f"{cell(metrics.get(f'HOG: {name}, top-1'))} | " if hog_head else ""
    lines = [
        f"# Evaluation: {about['weights']} on {about['split']}",
        "",
        f"{about['images']:,} images of {about['classes']:,} kanji ({about['left_out']:,} of the"
        f" split have no KanjiVG glyph and are left out), {k} drawings each, seed {about['seed']};"
        f" {about['date']}, {about['machine']}, {about['seconds']:.0f} s. Drawings are read by"
        f" {about['recogniser']}. In brackets 95 % bootstrap intervals over images."
        + CROSS_FITTED
        * about.get("cross_fitted", False),
        "",
        "*Authors*: their published outputs on their 1,828 test images, measured by us.",
        "",
        "## Is it the right kanji?",
        "",
        (
            f"| what is read | {reader} top-1 | top-5 | top-10 | authors' top-1 / 5 / 10"
            f" (recogniser) | {hog_head}authors' HOG |"
        ),
        "|---|---|---|---|---|---|" + "---|" * bool(hog_head),
    ]
    for name in (
        "true glyph",
        "new VAE of the true glyph",
        "predicted pixels",
        "single drawing",
        "best-ranked drawing",
        f"best of {k}",
        f"majority of {k}",
        f"mean probability of {k}",
        "Kuzushiji image itself",
        "classify, then look up: glyph of the answer",
        "nearest in z_old as it is read, then look up: glyph of the answer",
    ):
        if f"{reader}: {name}, top-1" in metrics:
            theirs = AUTHORS.get(f"recogniser: {name}", ())
            lines.append(
                f"| {name} | "
                + " | ".join(cell(metrics.get(f"{reader}: {name}, top-{t}")) for t in (1, 5, 10))
                + f" | {' / '.join(_plain(x) for x in theirs) if theirs else '–'} | {hog(name)}"
                + f"{_plain(AUTHORS[f'HOG: {name}'][0]) if f'HOG: {name}' in AUTHORS else '–'} |"
            )
    for name in (
        "candidates",
        "candidates, any form",
        "classify, then look up: answer",
        "nearest in z_old as it is read, then look up: answer",
    ):
        if f"{name}, top-1" in metrics:
            known = (1, 5, 10) if not name.startswith("nearest") else (1,)
            lines.append(
                f"| *{name}* (no drawing is read) | "
                + " | ".join(
                    cell(metrics.get(f"{name}, top-{t}") if t in known else None)
                    for t in (1, 5, 10)
                )
                + " | – | – |"
                + " – |" * bool(hog_head)
            )
    sections = {
        "Strokes": (
            (
                "The best-ranked drawing against KanjiVG's strokes: of the true kanji, of the true"
                " kanji for drawings that are read right, and of a random wrong kanji."
            ),
            (
                "stroke count exact",
                "stroke count within 1",
                "stroke count error",
                "strokes matched",
                "stroke order agreement",
                "stroke direction agreement",
                "length-independent DTW",
                "AIoU",
                "Chamfer distance",
                "Chamfer distance between two drawings",
            ),
        ),
        "Distribution": (
            "",
            (
                "NLL per stroke",
                "NLL per stroke, another image's z",
                "NLL per point",
                "NLL per point, another image's z",
                f"different kanji among {k} drawings",
                "confidence of the best candidate",
                'called "sure"',
                '"sure" readings right',
                '"sure" and wrong',
                "pixel uncertainty, right",
                "pixel uncertainty, wrong",
            ),
        ),
        "Latents": (
            "",
            (
                "reconstruction from z_old, nats",
                "KL of z_old, nats",
                "reconstruction from z_new, nats",
                "KL of z_new, nats",
                "1-NN in z_old of the plain image, same class",
                "linear probe of z_old",
            ),
        ),
    }
    for title, (text, names) in sections.items():
        head = (
            "| | true kanji | right ones | wrong kanji | authors |"
            if title == "Strokes"
            else "| | | authors |"
        )
        lines += [
            "",
            f"## {title}",
            "",
            *([text, ""] if text else []),
            head,
            "|---" * (head.count("|") - 1) + "|",
        ]
        for name in names:
            if name not in metrics:
                continue
            theirs = _plain(AUTHORS[name][0]) if name in AUTHORS else "–"
            extra = (
                [cell(metrics.get(f"{name}, {which}")) for which in ("right ones", "wrong kanji")]
                if title == "Strokes"
                else []
            )
            lines.append(f"| {name} | " + " | ".join([cell(metrics[name]), *extra, theirs]) + " |")
        prefix = {"Distribution": ("expected", "AUROC", "AURC"), "Latents": ("active", "KL")}.get(
            title, ()
        )
        lines += [
            f"| {name} | {cell(value) if isinstance(value, list) else _plain(value)} | – |"
            for name, value in summary["overall"].items()
            if name.startswith(prefix) and prefix
        ]
    for kind, bands in summary["groups"].items():
        names = [n for n in GROUPED if any(n in band for band in bands.values())]
        lines += [
            "",
            f"## By {kind}",
            "",
            f"| {kind} | images | " + " | ".join(names) + " |",
            "|---" * (len(names) + 2) + "|",
        ]
        lines += [
            f"| {band} | {values['n']:,} | "
            + " | ".join(_plain(values.get(n)) for n in names)
            + " |"
            for band, values in bands.items()
        ]
    lines += [
        "",
        "## Figures",
        "",
        "Chosen by seed and by the model's own numbers, not by hand.",
        "",
    ]
    lines += [f"![{caption}]({file})\n\n*{caption}*\n" for file, caption in figures]
    return "\n".join(lines) + "\n"


def _plain(value) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def cell(metric) -> str:
    """A metric of `intervals` as the tables have it: 0.852 [0.836, 0.868]."""
    if not metric or metric[0] is None:
        return "–"
    if len(metric) < 3 or metric[1] is None:
        return _plain(metric[0])
    return f"{metric[0]:.3f} [{metric[1]:.3f}, {metric[2]:.3f}]"


def write(summary: dict, figures: list[tuple[str, str]], out: Path) -> None:
    """Write evaluation.json and report.md, whole or not at all. Raises OSError if `out` cannot be
    written."""
    write_both(summary, markdown(summary, figures), out, "evaluation.json", "report.md")


def write_both(summary: dict, text: str, out: Path, data: str, page: str) -> None:
    """Write a summary as JSON and as text to files in the folder `out`, each whole or not at
    all."""
    for name, content in (
        (data, json.dumps(summary, indent=1, ensure_ascii=False) + "\n"),
        (page, text),
    ):
        with atomic_write(Path(out) / name) as part:
            part.write_text(content, "utf-8")
