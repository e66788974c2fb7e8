"""Names for drawings of one kanji, as KanjiVG has them for its variants."""

import hashlib
from collections.abc import Iterable


def variant(paths: Iterable[str]) -> str:
    """What KanjiVG would call the variant of its kanji that a drawing is, such as
    "Drawn0f3a9c25d1".

    In ids ("kvg:05f71-Drawn0f3a9c25d1-s1") it keeps drawings of one kanji apart in one page; the
    same drawing always has the same. paths: the data of its paths, in writing order.
    """
    return "Drawn" + hashlib.sha256("\n".join(paths).encode()).hexdigest()[:10]
