"""Turns strokes into the times and the style sheet with which an SVG writes itself, in CSS alone.

The finished drawing appears at once for anyone who has asked the system for less motion
(prefers-reduced-motion), who prints it, or whose program has no animations.
"""

import numpy as np

PACE = 110.0  # box units a second
PAUSE = 0.25  # seconds between strokes
SHORTEST = 0.2  # seconds

# A dash as long as the path (pathLength 1, and a little more for rounding) slides into it. Until
# its stroke begins, a path is hidden: its round cap would show as a dot.
STYLE_SHEET = """
@media screen and (prefers-reduced-motion: no-preference) {
 .kuzushiji-stroke { stroke-dasharray: 1.02 2; \
animation: kuzushiji-write var(--time) var(--begin) ease-in-out both; }
 .kuzushiji-number { animation: kuzushiji-show 0.1s var(--begin) both; }
}
@keyframes kuzushiji-write { from { stroke-dashoffset: 1.02; visibility: hidden; } \
to { stroke-dashoffset: 0; visibility: visible; } }
@keyframes kuzushiji-show { from { visibility: hidden; } to { visibility: visible; } }
"""


def schedule(polylines: list[np.ndarray]) -> list[tuple[float, float]]:
    """(begin, time) of each stroke in seconds: one after another, longer ones longer."""
    times, begin = [], 0.0
    for polyline in polylines:
        length = float(np.hypot(*np.diff(np.asarray(polyline, np.float64), axis=0).T).sum())
        time = min(max(SHORTEST, length / PACE), 5.0)
        times.append((begin, time))
        begin += time + PAUSE
    return times


def stroke_attributes(begin: float, time: float) -> dict[str, str]:
    """The attributes of a <path> of the animated drawing, besides its data."""
    return {
        "class": "kuzushiji-stroke",
        "pathLength": "1",
        "style": f"--begin:{begin:.2f}s;--time:{time:.2f}s",
    }


def number_attributes(begin: float) -> dict[str, str]:
    """The same for a stroke's number, which appears with the stroke."""
    return {"class": "kuzushiji-number", "style": f"--begin:{begin:.2f}s"}
