"""`kuzushiji-transfer evaluate --predictions FILE.csv`: another program's answers -> their
measures."""

from __future__ import annotations

from pathlib import Path

from transfer.system.entry import fail


def run(chosen) -> int:
    """Score the file as the parsed arguments of `evaluate` say; returns the exit code."""
    import datetime

    from transfer.data import corpus as corpora
    from transfer.evaluation import report
    from transfer.evaluation.predictions import score, table
    from transfer.system.errors import DataError
    from transfer.training.weights import WeightsError

    for option in ("weights", "limit"):
        if getattr(chosen, option) is not None:
            return fail(f"--{option} has no meaning with --predictions; leave it out")
    out = chosen.out or Path("evaluation") / f"{chosen.split}-{chosen.predictions.stem}"
    try:
        corpus = corpora.load(chosen.data)
        read = table.read(chosen.predictions, corpus, chosen.split)
        measured, left_out = score.measure(read, corpus, chosen.judges)
        about = {
            "predictions": chosen.predictions.name,
            "split": chosen.split,
            "images": len(read.names) - left_out,
            "left_out": left_out,
            "sample_corpus": corpus.is_sample,
            "date": datetime.date.today().isoformat(),
        }
        summary = score.summarise(measured, about)
        score.write(summary, out)
    except (DataError, WeightsError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(
            f"{out}: the report cannot be written ({error.strerror or error}); choose another"
            " folder with --out"
        )
    for name, metric in summary["metrics"].items():
        if metric[0] is not None:
            print(f"{name:<32} {report.cell(metric)}")
    print(f"{out / 'predictions.md'}: {about['images']:,} images")
    return 0
