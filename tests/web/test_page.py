"""The page in a real browser: headless Chromium, driven by Playwright."""

import dataclasses
import http.client
import http.server
import io
import json
import re
import threading

import numpy as np
import pytest
from lxml import etree
from PIL import Image

pytest.importorskip("starlette", reason="no starlette here; pip install '.[serve]'")
pytest.importorskip("uvicorn", reason="no uvicorn here; pip install '.[serve]'")
pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install '.[test]'")

from transfer.inference.images import read_image
from transfer.web.answer import answer

pytestmark = pytest.mark.slow  # half a minute on two cores
PATH = "{http://www.w3.org/2000/svg}path"
DROP = """([bytes, name, type]) => {
    const data = new DataTransfer();
    if (bytes) data.items.add(new File([new Uint8Array(bytes)], name, {type}));
    return data;
}"""


def drop(page, content, name="a.png", kind="image/png"):
    data = page.evaluate_handle(DROP, [list(content) if content else None, name, kind])
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})


def drawn(page):
    """Waits for the drawing."""
    page.wait_for_selector("#answer:not([hidden])")


def watch(page):
    """From now on, the page's uploads are kept for `sent`."""
    page.evaluate("""() => {
        const real = window.fetch;
        window.fetch = (url, options) => {
            if (url.includes('transfer')) window.uploaded = options?.body;
            return real(url, options);
        };
    }""")


def sent(page):
    """Width and height of the picture that was sent last."""
    return page.evaluate(
        "async () => { const b = await createImageBitmap(window.uploaded); return [b.width,"
        " b.height]; }"
    )


def downloaded(page, selector):
    with page.expect_download() as waiting:
        page.click(selector)
    with open(waiting.value.path(), encoding="utf-8") as file:
        return waiting.value.suggested_filename, file.read()


def wide(page):
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def test_drop_a_file_and_download_what_is_drawn(open_page, model, examples):
    page = open_page()
    drop(page, examples[2], "山 川.png")
    drawn(page)
    [result] = model.transfer(read_image(examples[2]).image)
    name, text = downloaded(page, "#svg")
    assert re.fullmatch(r"山 川-U\+[0-9A-F]{4,5}-seed0-1\.svg", name) and text == result.svg()
    root = etree.fromstring(text.encode())
    assert (
        len(root.findall(f".//{PATH}"))
        == len(result.strokes[0])
        == page.locator("#paper .strokes path").count()
    )
    name, text = downloaded(page, "#json")
    described = json.loads(text)
    assert (
        name.startswith("山 川-U+")
        and name.endswith("-seed0.json")
        and described["drawings"][0]["svg"] == result.svg()
        and described["candidates"]
    )
    assert (
        page.locator("#candidates li").count() == 10
        and page.locator("#drawings label").count() == 10
    )
    assert (
        result.candidates[0][0]
        in page.inner_text("#status")
        == page.get_by_role("status").nth(1).inner_text()
    )
    page.check("#drawings label:nth-child(3) input", force=True)
    name, text = downloaded(page, "#svg")
    assert name.endswith("-3.svg") and text == result.svg(2)


def test_the_pictures_show_the_numbers(open_page, model, examples):
    page = open_page()
    page.click("#examples li:nth-child(2) button")
    drawn(page)
    [result] = model.transfer(read_image(examples[1]).image)
    read = """(id) => {
        const c = document.getElementById(id);
        return [...c.getContext('2d').getImageData(0, 0, 64, 64).data];
    }"""
    shade = lambda name: np.reshape(page.evaluate(read, name), (64, 64, 4))[..., :3].astype(float)
    for name, ink in (("as-read", result.image / 255), ("predicted", result.pixels)):
        assert np.corrcoef(shade(name).mean(-1).ravel(), ink.ravel())[0, 1] < -0.999
    redness = shade("uncertain")[..., 0] - shade("uncertain")[..., 2]
    assert np.corrcoef(redness.ravel(), result.uncertainty.ravel())[0, 1] > 0.98
    assert "%" in page.get_attribute("#uncertain", "aria-label")


def test_on_paper_there_is_what_was_read_and_no_buttons(open_page):
    """And light, though the screen is dark."""
    page = open_page(color_scheme="dark")
    page.click("#examples li:nth-child(4) button")
    page.wait_for_selector("#answer:not([hidden])")
    corner = """() => [...document.getElementById('as-read').getContext('2d')
        .getImageData(0, 0, 1, 1).data].slice(0, 3)"""
    assert max(page.evaluate(corner)) < 60
    page.emulate_media(media="print")
    page.wait_for_timeout(100)
    assert min(page.evaluate(corner)) > 200
    for there in ("h1", "#view", "#verdict", "#paper", "#candidates", "#drawings"):
        assert page.is_visible(there), there
    for left_out in ("nav", "#read", "#file", "#examples", "#settings", "#play", "#svg", "footer"):
        assert not page.is_visible(left_out), left_out
    page.goto("/page.html")
    page.wait_for_selector("html[data-ready]")
    assert page.is_visible("#list-heading") and page.is_visible("#text")
    for left_out in ("nav", "#page-part", "#exports", "footer"):
        assert not page.is_visible(left_out), left_out


def test_a_link_draws_the_same_strokes_again(open_page, examples):
    page = open_page()
    page.click("#settings summary")
    page.fill("#seed", "77")
    page.click("#examples li:nth-child(6) button")
    drawn(page)
    page.check("#drawings label:nth-child(2) input", force=True)
    page.click("#share")
    page.wait_for_selector("#link-shown:not([hidden])")
    link = page.input_value("#link")
    _, text = downloaded(page, "#svg")
    assert "seed=77" in link and len(link) < 6000 and page.url == link
    other = open_page(link)
    drawn(other)
    assert (
        other.input_value("#seed") == "77"
        and other.url == link
        and other.is_checked("#drawings label:nth-child(2) input")
    )
    assert downloaded(other, "#svg")[1] == text
    damaged = open_page(link[:-40])
    assert "damaged" in damaged.inner_text("#problem")


def test_crop_by_pointer_and_the_way_back(open_page, examples):
    two = Image.new("L", (480, 240), 255)
    # Of the whole picture the largest piece of ink is read, 山; what is cropped is 春.
    for at, content in enumerate((examples[2], examples[7])):
        two.paste(
            Image.open(io.BytesIO(content)).convert("L").resize((200, 200)), (20 + 240 * at, 20)
        )
    file = io.BytesIO()
    two.save(file, "PNG")
    page = open_page()
    drop(page, file.getvalue())
    drawn(page)
    before = downloaded(page, "#svg")[1]
    page.evaluate("scrollTo(0, 0)")
    area = page.locator("#view").bounding_box()
    point = lambda x, y: (area["x"] + x * area["width"], area["y"] + y * area["height"])
    page.mouse.move(*point(0.1, 0.12))
    page.mouse.down()
    page.mouse.move(*point(0.3, 0.5))
    page.mouse.move(*point(0.49, 0.98))
    page.mouse.up()
    box = page.locator("#box").bounding_box()
    assert (
        abs(box["width"] - 0.39 * area["width"]) < 6
        and abs(box["height"] - 0.86 * area["height"]) < 6
    )
    watch(page)
    with page.expect_response("**/api/transfer?*"):
        page.click("#read")
    drawn(page)
    width, height = sent(page)
    assert abs(width - 0.39 * 480) < 8 and abs(height - 0.86 * 240) < 8
    after = downloaded(page, "#svg")[1]
    page.click("#undo")
    assert downloaded(page, "#svg")[1] == before and page.evaluate(
        "document.getElementById('stage').classList.contains('full')"
    )
    assert page.get_attribute("#undo", "aria-disabled") == "true"
    assert after != before


def test_keys_alone_are_enough(open_page):
    page = open_page()

    def tab_to(identity):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", identity):
                outline = page.evaluate(
                    "getComputedStyle(document.activeElement.closest('label') ??"
                    " document.activeElement).outlineStyle"
                )
                assert outline == "solid", identity
                return
        raise AssertionError(f"{identity} is not reached by Tab")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to("#examples li:nth-child(3) button")
    page.keyboard.press("Enter")
    drawn(page)
    tab_to("#drawings input")
    page.keyboard.press("ArrowDown")
    assert page.is_checked("#drawings label:nth-child(2) input")
    page.evaluate(
        "document.activeElement.blur(); document.querySelector('h1').tabIndex = -1;"
        " document.querySelector('h1').focus()"
    )
    tab_to("#box")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowLeft")
    tab_to(".corner.nw")
    page.keyboard.press("ArrowDown")
    assert re.search(
        r"Selected: \d+ by \d+ of 200 by 260 pixels, from 0, [1-9]", page.inner_text("#crop-status")
    )
    tab_to("#read")
    watch(page)
    with page.expect_response("**/api/transfer?*"):
        page.keyboard.press("Enter")
    drawn(page)
    width, height = sent(page)
    assert 150 < width < 200 and 240 < height < 260
    for _ in range(4):
        page.keyboard.press("Control+z")
    assert "Selected: 200 by 260 of" in page.inner_text("#crop-status")
    tab_to("#stroke")
    page.keyboard.press("Home")
    assert (
        page.locator("#paper .strokes path.unwritten").count()
        == page.locator("#paper .strokes path").count()
        > 1
    )
    page.keyboard.press("ArrowRight")
    assert page.locator("#paper .strokes path:not(.unwritten)").count() == 1
    assert page.get_attribute("#stroke", "aria-valuetext").startswith("1 of")


def test_strokes_are_written_one_after_another(open_page, until):
    page = open_page(reduced_motion="no-preference")
    page.click("#examples li:nth-child(8) button")
    page.wait_for_selector("#paper .writing")
    total = page.locator("#paper .strokes path").count()
    assert (
        page.locator("#paper .strokes path.unwritten").count() < total
        and page.inner_text("#play") == "Pause"
    )
    until(page, "document.querySelectorAll('#paper .writing, #paper .unwritten').length === 0")
    until(page, "document.getElementById('play').textContent === 'Play'")
    assert page.inner_text("#stroke-count") == f"{total} / {total}"
    page.click("#play")
    page.wait_for_selector("#paper .unwritten", state="attached")


def test_paste_and_choose(open_page, model, examples, until):
    pasted, chosen = (
        [c for c, _ in model.transfer(read_image(examples[i]).image)[0].candidates] for i in (3, 6)
    )
    listed = lambda: page.locator("#candidates .kanji").all_inner_texts()
    page = open_page()
    data = page.evaluate_handle(DROP, [list(examples[3]), "", "image/png"])
    page.evaluate(
        "(data) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data,"
        " bubbles: true}))",
        data,
    )
    drawn(page)
    assert listed() == pasted
    page.set_input_files(
        "#file", {"name": "moon.png", "mimeType": "image/png", "buffer": examples[6]}
    )
    until(page, "document.getElementById('view').ariaLabel === 'The picture: moon.png'")
    drawn(page)
    assert listed() == chosen


def test_what_cannot_be_drawn_is_said(open_page, examples):
    page = open_page()
    page.click("#examples li:nth-child(1) button")
    drawn(page)
    drop(page, b"just text", "notes.txt", "text/plain")
    page.wait_for_selector("#problem:not(:empty)")
    assert page.inner_text("#problem").startswith("This file is not a picture") and page.is_hidden(
        "#answer"
    )
    page.click("#undo")
    assert page.inner_text("#problem") == "" and page.is_visible("#answer")
    drop(page, None)
    assert "no file" in page.inner_text("#problem")
    page.click("#settings summary")
    page.fill("#seed", "-4")
    page.click("#again")
    assert "Seed" in page.inner_text("#problem")


def test_a_format_that_the_browser_does_not_know(open_page, examples):
    file = io.BytesIO()
    Image.open(io.BytesIO(examples[2])).convert("L").save(file, "TIFF")
    page = open_page()
    drop(page, file.getvalue(), "scan.tif", "image/tiff")
    drawn(page)
    assert page.is_visible("#no-view") and page.is_hidden("#stage")


def test_verdicts_are_shown_plainly(open_page, model, examples):
    page = open_page()
    page.route("**/api/transfer?*", lambda route: route.fulfill(json=real | changes))
    read = read_image(examples[3])
    [result] = model.transfer(read.image)
    real = answer(result, read, 0, 0.1)
    for verdict, words in (
        ("sure", "Fairly sure"),
        ("not sure", "Not sure"),
        ("not a kanji", "Not a kanji"),
    ):
        changes = {
            "verdict": verdict,
            "note": "used the largest of 3 pieces of ink that stand apart; x",
            "used": [10, 20, 90, 120],
        }
        page.click("#examples li:nth-child(4) button")
        page.wait_for_selector(f"#verdict[data-verdict={verdict.replace(' ', '-')}]")
        assert page.inner_text("#verdict-name") == words and page.is_visible("#verdict")
        assert page.inner_text("#status").startswith(words) == (verdict != "sure")
        assert "3 pieces" in page.inner_text("#note") and page.is_visible("#used")


def test_a_busy_server_is_asked_again(open_page, until):
    page = open_page()
    tries = []

    def busy_once(route):
        tries.append(1)
        if len(tries) == 1:
            return route.fulfill(
                status=503,
                headers={"Retry-After": "1"},
                json={"error": "too many requests are waiting"},
            )
        return route.continue_()

    page.route("**/api/transfer?*", busy_once)
    page.click("#examples li:nth-child(4) button")
    until(page, "document.getElementById('status').textContent.includes('busy')")
    drawn(page)
    assert len(tries) == 2


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
def test_a_phone_has_no_sideways_scrolling(open_page, locale):
    page = open_page(
        locale=locale, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True
    )
    assert wide(page) == 0 and page.is_visible("label:has(#camera)")
    page.click("#examples li:nth-child(4) button")
    drawn(page)
    page.click("#settings summary")
    page.click("#share")
    page.wait_for_selector("#link-shown:not([hidden])")
    assert wide(page) == 0
    small = page.evaluate(
        """[...document.querySelectorAll(
            'button, .button, select, input:not(.sr):not([type=checkbox])')]
        .filter((e) => e.checkVisibility() && !e.closest('.languages'))
        .filter((e) => e.getBoundingClientRect().height < 44).map((e) => e.outerHTML)"""
    )
    assert not small


def test_japanese(open_page, examples):
    page = open_page(locale="ja-JP")
    assert (
        page.get_attribute("html", "lang") == "ja"
        and page.inner_text("h1") == "くずし字から漢字へ" == page.title()
    )
    drop(page, examples[2])
    drawn(page)
    assert "確率" in page.inner_text("#status")
    english = page.evaluate(
        """[...document.querySelectorAll('main :is(button, label, h2, h3, p, summary, figcaption)')]
        .filter((e) => e.checkVisibility() && e.lang !== 'en')
        .map((e) => e.textContent).filter((t) => /[A-Za-z]{6,}/.test(t))"""
    )
    assert english == []
    page.click("[data-language=en]")
    assert page.get_attribute("html", "lang") == "en" and "likely" in page.inner_text("#status")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.inner_text("h1") == "Kuzushiji to kanji"


def test_everything_has_a_name_for_a_screen_reader(open_page):
    page = open_page()
    page.click("#examples li:nth-child(4) button")
    drawn(page)
    nameless = page.evaluate(
        """[...document.querySelectorAll(
            'button, a, input, select, canvas[role], svg[role], img, fieldset, section')]
        .filter((e) => e.checkVisibility() && !(
            e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.alt
            || e.textContent.trim() || e.querySelector('img')?.alt
            || e.labels?.[0]?.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    identities = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(set(identities)) == len(identities)
    for role, name in (
        ("button", "Copy link"),
        ("slider", "Strokes shown"),
        ("radio", "Drawing 1"),
        ("img", "Drawing of"),
        ("group", "Selection"),
        ("region", "Drawing"),
        ("list", "Candidates"),
    ):
        assert page.get_by_role(role, name=name).first.is_visible() or role == "radio"


class Proxy(http.server.BaseHTTPRequestHandler):
    """What is under /kuz/ is asked of `behind`, as nginx does where nothing else is said: with its
    address as Host, and the Origin as it is."""

    behind = ("127.0.0.1", 0)

    def do_GET(self):
        if not self.path.startswith("/kuz/"):
            return self.send_error(404)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        connection = http.client.HTTPConnection(*self.behind)
        connection.request(self.command, self.path.removeprefix("/kuz"), body, kept)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_POST = do_GET

    def log_message(self, *_):
        pass


def test_behind_a_proxy_under_a_path(browser, model, serving):
    """Page, scripts, API, examples and links are relative; the proxy's name is one of ours by
    --name."""
    with serving(model, hosts=("localhost",)) as behind:
        proxy = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Here", (Proxy,), {"behind": behind})
        )
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        context = browser.new_context(locale="en-GB", reduced_motion="reduce")
        try:
            page, asked = context.new_page(), []
            page.on("request", lambda request: asked.append(request.url))
            page.set_default_timeout(60_000)
            start = f"http://localhost:{proxy.server_port}/kuz/"
            page.goto(start)
            page.wait_for_selector("html[data-ready]")
            page.click("#examples button")
            drawn(page)
            assert "api/transfer" in "".join(asked) and all(
                url.startswith((start, "blob:", "data:")) for url in asked
            )
            page.click("#share")
            page.wait_for_selector("#link-shown:not([hidden])")
            link = page.input_value("#link")
            assert link.startswith(start + "#")
            again = context.new_page()
            again.goto(link)
            drawn(again)
        finally:
            context.close()
            proxy.shutdown()
            proxy.server_close()


def shot(browser, html, script=None):
    """(H, W) grey of a page of 109 x 109 pixels a drawing."""
    context = browser.new_context(viewport={"width": 240, "height": 120})
    try:
        page = context.new_page()
        page.set_content(
            "<!doctype html><meta charset=utf-8><style>body { margin: 0 } svg "
            f"{{ float: left }}</style>{html}"
        )
        if script:
            page.evaluate(script)
        return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    finally:
        context.close()


AT = "time => document.getAnimations().forEach(a => { a.pause(); a.currentTime = time; })"


def test_the_first_frame_of_an_animation_is_empty(browser, model, examples):
    """No flash of the whole character, not even in the very first picture that is painted."""
    [result] = model.transfer(read_image(examples[2]).image, samples=1)
    animated, still = result.svg(animate=True), shot(browser, result.svg())
    assert (still < 128).any()
    blank = shot(browser, animated, f"({AT})(0)")
    assert (blank > 250).all()
    assert np.abs(shot(browser, animated, f"({AT})(1e6)").astype(int) - still).max() < 40, (
        "the last frame is the whole character"
    )
    at_once = shot(browser, animated)
    assert (at_once < 128).sum() < 0.5 * (still < 128).sum()


def test_two_drawings_in_one_page_do_not_disturb_each_other(browser, model, examples):
    results = model.transfer(np.stack([read_image(e).image for e in examples[:2]]), samples=2)
    one, other = (r.svg() for r in results)
    assert not re.search(
        r"url\(|href=|#[A-Za-z]", re.sub(r"#[0-9a-f]{6}", "", one + results[0].svg(animate=True))
    ), "nothing refers to an id"
    same_kanji = dataclasses.replace(results[0], written=results[0].written[:1] * 2).svg(1)
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other, same_kanji)]
    assert all(ids) and len(set.union(*ids)) == sum(map(len, ids))
    for pair in (
        (one, other),
        (one, one),
        (one, same_kanji),
        (one, results[1].svg(animate=True)),
    ):
        both = shot(browser, "".join(pair), f"({AT})(1e6)")
        for at, text in enumerate(pair):
            alone = shot(browser, text, f"({AT})(1e6)")
            assert (
                np.abs(both[:109, 109 * at : 109 * (at + 1)].astype(int) - alone[:109, :109]).max()
                < 40
            )
