"""Names for drawings of one kanji, as KanjiVG has them for its variants."""

import hashlib
from collections.abc import Iterable


def variant(paths: Iterable[str]) -> str:
    """The name of a drawing as a variant of its kanji, in KanjiVG's manner, such as
    "Drawn0f3a9c25d1".

    In ids ("kvg:05f71-Drawn0f3a9c25d1-s1") it keeps drawings of one kanji on one page apart. The
    same drawing always has the same name. paths: the data of its paths, in writing order.
    """
    return "Drawn" + hashlib.sha256("\n".join(paths).encode()).hexdigest()[:10]
