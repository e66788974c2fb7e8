"""What a reader does on the page for whole pages, served or exported, and what can be seen of it
then."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

from lxml import etree

SHEET = (900, 700)
"""Pixels of the made-up sheet."""


def put(page, content, name="sheet.png", kind="image/png"):
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})


def overlap(a, b):
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    both = max(0, width) * max(0, height)
    return both / (area(a) + area(b) - both)


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def on_screen(page, point, size):
    """Where a point of a page lies that is seen as a whole."""
    area = page.evaluate("""() => { const s = document.getElementById('stage');
        const r = s.getBoundingClientRect();
        return [r.left + s.clientLeft, r.top + s.clientTop, s.clientWidth, s.clientHeight]; }""")
    scale = min(area[2] / size[0], area[3] / size[1])
    return [area[i] + (area[2 + i] - scale * size[i]) / 2 + point[i] * scale for i in (0, 1)], scale


def click(page, box, size=SHEET):
    page.evaluate("scrollTo(0, 0)")
    (x, y), _ = on_screen(page, middle(box), size)
    before = page.inner_text("#status")
    page.mouse.click(x, y)
    return before


def framed(page):
    """Frames in the order of the list, in pixels of the page, as the saved work has them."""
    return [tuple(item["frame"].values()) for item in saved(page)["items"]]


def download(page, selector):
    with page.expect_download() as waiting:
        page.click(selector)
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def saved(page):
    return json.loads(download(page, "#save")[1])


def click_all(page, boxes, until, size=SHEET):
    """Clicks in the middle of each; waits for the frames, not for the readings."""
    for count, box in enumerate(boxes, 1):
        click(page, box, size)
        until(page, f"document.querySelectorAll('#list li').length >= {count}")


def all_read(page, until):
    until(
        page,
        "![...document.querySelectorAll('.entry')].some((e) => !e.dataset.verdict)"
        " && document.querySelector('.entry')",
        400,  # twelve readings, on a machine that does other things too
    )


def way_of_a_reader(page, boxes, until, size=SHEET):
    """Clicks on twelve characters of the page sheet.* that is open, mends a frame, changes the
    order and a reading by hand, exports, reloads and undoes. boxes: where the characters are.

    Returns the saved work, and the lines of its text.
    """
    click_all(page, boxes, until, size)
    found = framed(page)
    best = [max(overlap(box, frame) for frame in found) for box in boxes]
    assert sum(value >= 0.6 for value in best) >= 10 and len(found) == 12, best
    # By hand: the lower right corner of the first frame, by pointer.
    page.evaluate("scrollTo(0, 0)")
    click(page, found[0], size)
    corner = page.locator(".mark.chosen .corner.se").bounding_box()
    x, y = corner["x"] + corner["width"] / 2, corner["y"] + corner["height"] / 2
    _, scale = on_screen(page, (0, 0), size)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 10 * scale, y + 6 * scale, steps=3)
    page.mouse.move(x + 20 * scale, y + 12 * scale, steps=3)
    page.mouse.up()
    mended = framed(page)[0]
    assert mended[:2] == found[0][:2]
    assert abs(mended[2] - found[0][2] - 20) <= 2 and abs(mended[3] - found[0][3] - 12) <= 2
    all_read(page, until)
    # The order by hand, a reading by hand, a note.
    page.click("#later")
    assert framed(page)[:2] == [found[1], mended]
    page.fill("#typed", "木木")
    page.fill("#remark", "=1+1 <b>?</b>")
    page.click("#list-heading")
    work = saved(page)
    assert work["items"][1]["chosen"] == "木木" and work["manual"] is True
    shown = page.inner_text("#text").strip().split("\n")
    name, text = download(page, "#save-text")
    assert name == "sheet.txt" and text.decode().strip().split("\n") == shown
    assert sum(map(len, shown)) == 13 and any("木木" in line for line in shown)
    rows = download(page, "#save-tsv")[1].decode().strip().split("\n")
    assert len(rows) == 13 and rows[2].split("\t")[1:4] == ["木木", "U+6728 U+6728", "reader"]
    assert rows[2].endswith("\t'=1+1 <b>?</b>")
    table = list(csv.reader(io.StringIO(download(page, "#save-csv")[1].decode("utf-8-sig"))))
    assert [len(row) for row in table] == [12] * 13 and table[3][1] == "".join(shown)[3]
    with zipfile.ZipFile(io.BytesIO(download(page, "#save-zip")[1])) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == 12
        for entry in archive.namelist():
            paths = etree.fromstring(archive.read(entry)).findall(".//{*}path")
            assert re.fullmatch(r"\d{3}_U\+[0-9A-F]{4,5}\.svg", entry) and paths
    # A reload brings all of it back; undo goes on from there.
    page.wait_for_timeout(600)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    again = saved(page)
    assert again["items"] == work["items"] and again["manual"] is True
    assert page.inner_text("#text").strip().split("\n") == shown
    page.click("#list li:nth-child(4) .entry")
    page.click("#remove")
    assert len(framed(page)) == 11
    page.keyboard.press("Control+z")
    assert saved(page)["items"] == work["items"]
    page.keyboard.press("Control+y")
    assert page.locator("#list li").count() == 11
    page.click("#undo")
    page.click("#sort")
    assert framed(page)[0] == mended
    return work, shown
