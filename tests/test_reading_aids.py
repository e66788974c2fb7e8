"""The shipped table of stroke counts, radicals and components."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from transfer import reading_aids
from transfer.data.published.kanjivg import is_kanji

ROOT = Path(__file__).parents[1]


def test_table_is_whole_and_small():
    table = reading_aids.table()
    assert len(table) > 6000 and reading_aids.FILE.stat().st_size < 400_000
    for kanji, aid in table.items():
        assert (
            len(kanji) == 1
            and is_kanji(ord(kanji))
            and 1 <= aid.strokes < 40
            and len(aid.radical) <= 1
        )
        assert aid.components.count("(") == aid.components.count(")") and "()" not in aid.components
    assert "CC BY-SA 3.0" in reading_aids.FILE.read_text("utf-8").splitlines()[0]
    assert "Ulrich Apel" in (reading_aids.FILE.parent / "README.md").read_text("utf-8")


def test_known_kanji():
    assert reading_aids.aid("花") == reading_aids.Aid(7, "艹", "艹化(亻匕)")
    assert reading_aids.aid("国") == reading_aids.Aid(8, "囗", "囗玉(王丶)"), (
        "a part in two pieces is named once"
    )
    assert reading_aids.aid("a") is None


def test_no_code_of_kanjivgs_own_reaches_a_reader():
    for kanji, aid in reading_aids.table().items():
        assert not re.search(r"[\x21-\x27\x2a-\x7e\u2ff0-\u2fff]", aid.components + aid.radical), (
            kanji,
            aid,
        )
    components = {kanji: reading_aids.aid(kanji).components for kanji in "原武專從源暹爨"}
    assert components == {
        "原": "厂白(日)小",
        "武": "一弋止(卜)",
        "專": "十寸",
        "從": "彳(亻)从(人人)龰",
        "源": "氵原(厂白小)",
        "暹": "日隹辶",
        "爨": "𦥑𠔼コ冖𤍾(林𤆍)",
    }


def test_the_script_leaves_codes_out():
    make = runpy.run_path(str(ROOT / "experiments" / "make_reading_aids.py"))["components"]
    rows = [
        ("甲", 0, -1),
        ("CDP-8BC4", 1, 0),
        ("乙", 0, 1),
        ("⿱日隹", 0, 0),
        ("隹", 0, 3),
        ("CDP-8BC4", 2, 0),
        ("乙", 0, 5),
        ("丙", 0, 0),
    ]
    records = np.array(
        [(*row,) for row in rows], [("element", "U8"), ("part", np.int16), ("parent", np.int16)]
    )
    assert make(records) == "乙日隹丙"


@pytest.mark.realdata
def test_script_makes_the_table_that_is_shipped(real_data, tmp_path, monkeypatch):
    import sys

    out = tmp_path / "kanji.tsv"
    monkeypatch.setattr(
        sys, "argv", ["make_reading_aids.py", "--data", str(real_data), "--out", str(out)]
    )
    with pytest.raises(SystemExit) as finished:
        runpy.run_path(str(ROOT / "experiments" / "make_reading_aids.py"), run_name="__main__")
    assert finished.value.code == 0
    rows = [
        [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
        for path in (out, reading_aids.FILE)
    ]
    made, shipped = rows
    assert len(np.setdiff1d(made, shipped)) < 0.02 * len(shipped), (
        "another release of KanjiVG may differ a little"
    )
