"""Turns QuickDraw's .ndjson, one drawing a line, into records and back.

Format: https://github.com/googlecreativelab/quickdraw-dataset; a raw stroke is [x], [y], [t], a
simplified one [x], [y].
"""

import json
import math
from collections.abc import Callable

import numpy as np

from transfer.system.errors import DataError

UNITS = 255 / 109  # of the simplified drawings, to one box unit: they lie in 0 … 255
_MAX_LINE = 4 << 20  # bytes; the longest published drawing has some 100 kB


def read(file, where, say: Callable[[str], None] = lambda text: None):
    """Yield (word, key_id, strokes, is_raw) of each line of a binary file; strokes (n, 2) float64,
    n >= 2, as stored.

    Strokes without points are left out; at the end `say` is called once with their number and the
    place of the first. Raises DataError, which names the line, if a line is not JSON, has no
    drawing, or holds numbers that are not finite.
    """
    number, empty, first = 0, 0, 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        here = f"{where}: line {number}"
        if len(line) > _MAX_LINE:
            raise DataError(
                f"{here}: longer than {_MAX_LINE >> 20} MB; this is not a QuickDraw file"
            )
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:80]
            raise DataError(f"{here}: not JSON ({reason}); fix or remove the line") from None
        if not isinstance(record, dict) or not isinstance(record.get("drawing"), list):
            raise DataError(f"{here}: has no drawing (a list of strokes); fix or remove the line")
        strokes = [
            _stroke(s, f"{here}: stroke {i}")
            for i, s in enumerate(record["drawing"], 1)
            if not _is_empty(s)
        ]
        if gone := len(record["drawing"]) - len(strokes):
            empty, first = empty + gone, first or number
        yield (
            _text(record.get("word")),
            _text(record.get("key_id")),
            strokes,
            any(len(s) > 2 for s in record["drawing"]),
        )
    if empty:
        say(
            f"{where}: {empty:,} {'stroke' if empty == 1 else 'strokes'} without points left "
            f"out, the first in line {first}"
        )


def line(word: str, key: str, strokes, digits: int | None, recognized: bool = True) -> str:
    """One line in the simplified form. Coordinates are rounded to `digits` decimals; None gives
    whole numbers."""
    rounded = [
        [[round(float(v), digits) for v in stroke[:, axis]] for axis in (0, 1)]
        for stroke in strokes
    ]
    record = {"word": word, "key_id": key, "recognized": recognized, "drawing": rounded}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _text(value) -> str:
    return str(value) if isinstance(value, (str, int)) else ""


def _is_empty(stroke) -> bool:
    return isinstance(stroke, list) and len(stroke) > 1 and all(axis == [] for axis in stroke)


def _stroke(stroke, where: str) -> np.ndarray:
    if (
        not isinstance(stroke, list)
        or len(stroke) < 2
        or not all(isinstance(a, list) for a in stroke[:2])
    ):
        raise DataError(f"{where} is not [[x, …], [y, …]]; fix or remove the line")
    x, y = stroke[:2]
    if len(x) != len(y) or not x:
        raise DataError(f"{where} has {len(x)} x and {len(y)} y; fix or remove the line")
    if not all(type(v) in (int, float) and abs(v) < 1e9 and math.isfinite(v) for v in x + y):
        raise DataError(
            f"{where} holds something that is not a finite number; fix or remove the line"
        )
    points = np.array([x, y], np.float64).T
    return np.repeat(points, 2, axis=0) if len(points) == 1 else points
