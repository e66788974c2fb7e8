"""What a notebook shows of a Result: whole HTML, everything inline, nothing active."""

import base64
import dataclasses
import io
import re

from lxml import etree, html
from PIL import Image

from transfer.output.card import card


def test_card_is_well_formed_and_shows_everything(made):
    root = html.fragment_fromstring(made._repr_html_())
    pictures = root.findall(".//img")
    assert (
        [p.get("alt") for p in pictures]
        and len(pictures) == 3
        and all(p.get("alt") for p in pictures)
    )
    for picture in pictures:
        with Image.open(
            io.BytesIO(base64.b64decode(picture.get("src").removeprefix("data:image/png;base64,")))
        ) as opened:
            opened.load()
            assert opened.size == (256, 256)
    text = root.text_content()
    assert "not sure" in text and "U+2000B" in text and "75.0 %" in text
    widths = [float(w) for w in re.findall(r'<div style="width:([\d.]+)%', card(made))]
    assert widths == [75.0, 20.0, 5.0]
    assert len(root.findall(".//path")) == 2


def test_nothing_active_and_all_text_escaped(made):
    shown = card(dataclasses.replace(made, note="<script>alert(1)</script>", written=['"', "x"]))
    assert "<script" not in shown and "&lt;script&gt;" in shown
    root = html.fragment_fromstring(shown)
    for element in root.iter(etree.Element):
        assert element.tag not in ("script", "style", "link", "iframe", "object", "foreignobject")
        for name, value in element.attrib.items():
            assert not name.startswith("on") and "javascript:" not in value and "href" not in name
            assert name != "src" or value.startswith("data:image/png;base64,")
            assert "url(" not in value
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg|kanjivg\.tagaini\.net)", shown)


def test_card_without_drawings_or_candidates(made):
    root = html.fragment_fromstring(
        card(dataclasses.replace(made, strokes=[], written=[], candidates=[]))
    )
    assert not root.findall(".//path") and "not sure" in root.text_content()


def test_cards_of_two_drawings_of_one_kanji_have_no_id_in_common(made):
    """A notebook puts the cards of a cell's results into one page."""
    other = dataclasses.replace(made, strokes=[[s + 1 for s in made.strokes[0]]])
    assert made.written[0] == other.written[0]
    ids = [set(html.fragment_fromstring(card(r)).xpath(".//@id")) for r in (made, other)]
    assert len(ids[0]) == len(ids[1]) == 5 and ids[0].isdisjoint(ids[1])


def test_repr_svg_is_the_drawing(made):
    assert (
        made._repr_svg_() == made.svg()
        and len(etree.fromstring(made._repr_svg_()).findall(".//{*}path")) == 2
    )
