"""Old hands beside a candidate, forms, and pages from elsewhere (a IIIF server and PDF files), in a
real browser."""

import http.server
import io
import json
import socket
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="no starlette here; pip install '.[serve]'")
pytest.importorskip("uvicorn", reason="no uvicorn here; pip install '.[serve]'")
pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install '.[test]'")

from transfer.output.drawn import OldHand

pytestmark = pytest.mark.slow  # a minute on two cores
SIZES = {"one": (300, 400), "two": (500, 200)}
PURE = """async ([name, ...values]) => {
    const module = await import('/static/page/iiif.js');
    try { return {found: module[name](...values)}; }
    catch (error) { return {key: error.key, values: error.values}; }
}"""


def page_of(size, kind="JPEG"):
    picture = Image.new("RGB", size, (230, 215, 180))
    picture.paste((30, 25, 20), (size[0] // 3, size[1] // 3, size[0] // 2, size[1] // 2))
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


class Library(http.server.BaseHTTPRequestHandler):
    """A IIIF server: two pages in both versions, and whatever can be wrong with an answer."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        if self.path.startswith("/hangs-up"):
            return self.connection.shutdown(socket.SHUT_RDWR)
        here = f"http://127.0.0.1:{self.server.server_port}"
        code, kind, body, cors = self.answer(self.path.partition("?")[0], here)
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) + (100 if "/cut" in self.path else 0)))
        if cors:
            self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path, here):
        found = lambda document: (200, "application/json", json.dumps(document).encode(), True)
        parts = path.strip("/").split("/")
        if parts[-1] == "info.json" and parts[0] in ("v2", "v3") and parts[1] in SIZES:
            return found(info(f"{here}/{parts[0]}/{parts[1]}", SIZES[parts[1]], parts[0]))
        if parts[-1] == "default.jpg" and parts[1] in SIZES:
            return 200, "image/jpeg", page_of(SIZES[parts[1]]), True
        documents = {
            "/two/manifest.json": lambda: manifest2(here),
            "/three/manifest.json": lambda: manifest3(here),
            "/list": lambda: {"type": "Collection", "items": []},
            "/nothing.json": lambda: {"type": "Manifest", "items": [], "label": "x"},
            "/other.json": lambda: {"hello": 1},
        }
        if path in documents:
            return found(documents[path]())
        return {
            "/web.html": (200, "text/html", b"<!doctype html><script>1</script>", True),
            "/lies.json": (200, "application/json", b"<html>no</html>", True),
            "/broken.json": (200, "application/json", b'{"type": "Man', True),
            "/cut.json": (200, "application/json", b'{"type": "Man', True),
            "/closed.json": (200, "application/json", b"{}", False),
        }.get(path, (404, "text/html", b"<p>nothing</p>", True))

    def log_message(self, *_):
        pass


def info(address, size, version):
    width, height = size
    if version == "v2":
        context = "http://iiif.io/api/image/2/context.json"
        found = {"@context": context, "@id": address, "protocol": "http://iiif.io/api/image"}
        return found | {"width": width, "height": height, "profile": ["a/level2.json"]}
    context = "http://iiif.io/api/image/3/context.json"
    found = {"@context": context, "id": address, "type": "ImageService3", "profile": "level1"}
    return found | {"width": width, "height": height, "protocol": "http://iiif.io/api/image"}


def manifest2(here):
    canvas = lambda name: {
        "@type": "sc:Canvas",
        "label": [{"@language": "ja", "@value": f"<b>丁</b> {name}"}],
        "images": [
            {
                "resource": {
                    "@id": f"{here}/v2/{name}/full/full/0/default.jpg",
                    "service": {
                        "@context": "http://iiif.io/api/image/2/context.json",
                        "@id": f"{here}/v2/{name}",
                        "profile": "http://iiif.io/api/image/2/level2.json",
                    },
                }
            }
        ],
    }
    return {
        "@type": "sc:Manifest",
        "label": "伊勢物語 <script>alert(1)</script>",
        "attribution": "The library",
        "sequences": [{"canvases": [canvas("one"), canvas("two")]}],
    }


def manifest3(here):
    canvas = lambda name, service: {
        "type": "Canvas",
        "label": {"none": [name]},
        "items": [
            {
                "items": [
                    {
                        "body": {
                            "type": "Image",
                            "id": f"{here}/v3/{name}/full/max/0/default.jpg",
                            "service": service,
                        }
                    }
                ]
            }
        ],
    }
    service = [{"id": f"{here}/v3/two", "type": "ImageService3", "profile": "level1"}]
    return {
        "type": "Manifest",
        "label": {"en": ["Tales of Ise"], "ja": ["伊勢物語"]},
        "requiredStatement": {"label": {"en": ["By"]}, "value": {"en": ["The library"]}},
        "items": [canvas("one", []), canvas("two", service)],
    }


@pytest.fixture(scope="module")
def library():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Library)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def reading(open_page, library):
    """reading(**options): the page for whole pages, which may ask the library."""
    library.asked.clear()

    def opened(**options):
        return open_page(
            "/page.html", elsewhere=f"http://127.0.0.1:{library.server_port}", **options
        )

    return opened


def fetch(page, address):
    if not page.evaluate("document.getElementById('elsewhere').open"):
        page.click("#elsewhere summary")
    page.fill("#address", address)
    page.click("#address-form button")


def name_of(page):
    return page.get_attribute("#view", "aria-label")


def told(page):
    page.wait_for_selector("#problem:not(:empty)")
    text = page.inner_text("#problem")
    assert "\n" not in text and page.inner_text("#status") == ""
    return text


# ---- The addresses and documents of IIIF


@pytest.fixture
def pure(open_page):
    page = open_page("/page.html")
    return lambda *given: page.evaluate(PURE, list(given))


def test_addresses(pure):
    good = "https://a.example/m/manifest.json"
    for text in (
        good,
        f"  {good}\n",
        f"https://viewer.example/?manifest={good}",
        f"https://viewer.example/#?manifest={good}&cv=3",
        f"https://viewer.example/x?iiif-content={good}",
    ):
        assert pure("addressOf", text) == {"found": good}
    for text in ("", "ise", "ftp://a.example/x", "javascript:alert(1)", "file:///etc/passwd"):
        assert pure("addressOf", text)["key"] == "address-wrong"
    assert pure("describedAt", "https://a.example/iiif/x1/") == {
        "found": "https://a.example/iiif/x1/info.json"
    }
    for text in (good, "https://a.example/iiif/x/manifest", "https://a.example/x?y=1"):
        assert pure("describedAt", text) == {"found": None}


def test_manifests_of_both_versions(pure):
    for made in (manifest2, manifest3):
        document = made("https://a.example")
        assert pure("kindOf", document) == {"found": "manifest"}
        found = pure("readManifest", document, "ja")["found"]
        assert found["title"].startswith("伊勢物語") and "<" not in found["title"]
        assert found["rights"] == "The library" and len(found["pages"]) == 2
        version = "v2" if made is manifest2 else "v3"
        assert found["pages"][1]["service"] == f"https://a.example/{version}/two"
        assert found["pages"][0]["picture"].startswith(f"https://a.example/{version}/one/full/")
        assert "<" not in found["pages"][0]["label"]
    assert pure("readManifest", manifest3("https://a"), "en")["found"]["title"] == "Tales of Ise"
    choice = manifest3("https://a.example")
    body = choice["items"][0]["items"][0]["items"][0]["body"]
    choice["items"][0]["items"][0]["items"][0]["body"] = {"type": "Choice", "items": [body]}
    assert pure("readManifest", choice, "en")["found"]["pages"][0]["label"] == "one"


@pytest.mark.parametrize(
    "document",
    [
        {"type": "Manifest", "items": [None, 3, {"items": "x"}, {"items": [{"items": [{}]}]}]},
        {"@type": "sc:Manifest", "sequences": [{"canvases": [{"images": [None]}, {"images": 3}]}]},
        {"@type": "sc:Manifest", "sequences": None},
        {"type": "Manifest"},
        {
            "type": "Manifest",
            "items": [{"items": [{"items": [{"body": {"id": "javascript:alert(1)"}}]}]}],
        },
    ],
)
def test_manifests_without_a_page(pure, document):
    assert pure("readManifest", document, "en")["key"] == "iiif-empty"


def test_sizes_that_an_image_is_asked_for(pure):
    address = lambda more, most=10_000, version="v3": pure(
        "imageAddress", info("https://a.example/x/", (4000, 3000), version) | more, most
    ).get("found", "")
    asked = lambda *given: address(*given).split("/full/")[-1].split("/")[0]
    assert address({}) == "https://a.example/x/full/max/0/default.jpg"
    assert asked({}, 10_000, "v2") == "full"
    assert asked({}, 2000) == asked({}, 2000, "v2") == "2000,"
    assert asked({"maxWidth": 1000}) == "1000,"
    assert asked({"maxHeight": 300}) == "400,"
    assert asked({"maxArea": 3_000_000}) == "2000,"
    assert asked({"profile": ["x/level2.json", {"maxWidth": 500}]}, 10_000, "v2") == "500,"
    sizes = [{"width": 1000, "height": 750}, {"width": 2000, "height": 1500}, {"width": 3000}]
    assert asked({"profile": "level0", "sizes": sizes}, 2500) == "2000,1500"
    assert asked({"profile": ["a/level0.json"], "sizes": sizes}, 2500, "v2") == "2000,"
    assert asked({"profile": "level0", "sizes": "x"}, 2500) == "max"
    for more, key in (
        ({"width": 0}, "iiif-damaged"),
        ({"height": "9"}, "iiif-damaged"),
        ({"id": "javascript:alert(1)"}, "iiif-damaged"),
        ({"@context": "http://library.example/image-api/1.1", "type": ""}, "iiif-version"),
    ):
        document = info("https://a.example/x", (40, 30), "v3") | more
        if key == "iiif-version":
            document.pop("protocol")
        assert pure("imageAddress", document, 100)["key"] == key


def test_what_a_document_is(pure):
    kinds = {
        "manifest": {"@type": "sc:Manifest"},
        "collection": {"@type": "sc:Collection"},
        "image": info("https://a.example/x", (4, 3), "v2"),
        "": [1],
    }
    for kind, document in kinds.items():
        assert pure("kindOf", document) == {"found": kind}
    for document in ("text", None, 3, {"type": {"a": 1}}):
        assert pure("kindOf", document) == {"found": ""}


# ---- In the page


@pytest.mark.parametrize("version", ["two", "three"])
def test_a_manifest_is_turned_page_by_page(reading, library, until, version):
    page, here = reading(), f"http://127.0.0.1:{library.server_port}"
    assert library.asked == [], "nothing is asked before an address is entered"
    fetch(page, f"{here}/{version}/manifest.json")
    until(page, "document.getElementById('view').ariaLabel.includes('one')")
    assert page.is_visible("#book") and "of 2" in page.inner_text("#book-of")
    assert page.inner_text("#book-rights") == "The library"
    assert page.get_attribute("#book-before", "aria-disabled") == "true"
    page.click("#book-after")
    until(page, "document.getElementById('view').ariaLabel.includes('two')")
    assert page.input_value("#book-number") == "2"
    page.fill("#book-number", "1")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('view').ariaLabel.includes('one')")
    page.fill("#book-number", "9")
    page.keyboard.press("Enter")
    assert "1 to 2" in page.inner_text("#problem") and "one" in name_of(page)
    for _, headers in library.asked:
        assert "Referer" not in headers and "Cookie" not in headers
    # A file of its own closes the book.
    content = page_of((90, 90), "PNG")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": content})
    until(page, "document.getElementById('view').ariaLabel.includes('a.png')")
    assert page.is_hidden("#book")


@pytest.mark.parametrize(
    "path", ["v2/one/info.json", "v3/two", "v2/one/full/full/0/default.jpg", "v3/two/info.json"]
)
def test_an_image_by_its_address(reading, library, until, path):
    page = reading()
    fetch(page, f"http://127.0.0.1:{library.server_port}/{path}")
    until(page, "document.documentElement.dataset.looked > 0")
    assert path.split("/")[1] in name_of(page) and page.is_hidden("#book")


def test_addresses_that_lead_nowhere_are_one_line_and_the_work_stays(reading, library, until):
    page, here = reading(), f"http://127.0.0.1:{library.server_port}"
    content = page_of((300, 300), "PNG")
    page.set_input_files("#file", {"name": "mine.png", "mimeType": "image/png", "buffer": content})
    until(page, "document.documentElement.dataset.looked > 0")
    for path, words in (
        ("/web.html", "answered with a web page"),
        ("/lies.json", "answered with a web page"),
        ("/broken.json", "neither a IIIF manifest nor an image"),
        ("/other.json", "neither a IIIF manifest nor an image"),
        ("/cut.json", "broke off"),
        ("/closed.json", "does not let other pages read it"),
        ("/gone", "error 404"),
        ("/list", "list of books"),
        ("/nothing.json", "no page with an image"),
    ):
        fetch(page, here + path)
        assert words in told(page), path
        assert "mine.png" in name_of(page)
    fetch(page, "ise monogatari")
    assert "no web address" in told(page)
    fetch(page, here + "/hangs-up")
    assert "cannot be reached" in told(page)


def test_pages_of_a_pdf(open_page, until):
    pytest.importorskip("pypdfium2", reason="no pypdfium2 here; pip install '.[pdf]'")
    first, *more = [Image.open(io.BytesIO(page_of(size, "PNG"))) for size in SIZES.values()]
    first.save(file := io.BytesIO(), "PDF", save_all=True, append_images=more)
    page = open_page("/page.html")
    put = lambda name, kind, content: page.set_input_files(
        "#file", {"name": name, "mimeType": kind, "buffer": content}
    )
    put("book.pdf", "application/pdf", file.getvalue())
    until(page, "document.getElementById('view').ariaLabel.includes('book.pdf, 1')")
    assert page.is_visible("#book") and "of 2" in page.inner_text("#book-of")
    page.click("#book-after")
    until(page, "document.getElementById('view').ariaLabel.includes('book.pdf, 2')")
    put("broken.pdf", "application/pdf", b"%PDF-1.4 nothing")
    page.wait_for_selector("#problem:not(:empty)")
    assert "damaged" in page.inner_text("#problem") and "book.pdf, 2" in name_of(page)


def test_heic_where_the_server_lacks_the_package(open_page, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    page = open_page("/page.html")
    content = b"\0\0\0\x18ftypheic" + bytes(99)
    page.set_input_files("#file", {"name": "a.heic", "mimeType": "image/heic", "buffer": content})
    page.wait_for_selector("#problem:not(:empty)")
    assert "pip install pillow-heif" in page.inner_text("#problem")


# ---- Beside the candidates


class Hands:
    """Stands in for prototypes: two pictures of each kanji."""

    source, attribution = "painted", ""

    def of(self, characters, z_old, most=4):
        picture = np.zeros((64, 64), np.uint8)
        picture[10:50, 28:36] = 255
        return [(OldHand(picture, 1.0), OldHand(picture.T, 2.0, "fonts")) for _ in characters]


@pytest.fixture
def hands(model, monkeypatch):
    monkeypatch.setattr(model, "old_hands", Hands())


def test_old_hands_and_forms_of_one_character(open_page, hands, until):
    page = open_page("/")
    page.click("#examples li:nth-child(5) button")
    page.wait_for_selector("#candidates .hands img")
    count = page.locator("#candidates li").count()
    assert page.locator("#candidates .hands img").count() == 2 * count
    alt = page.get_attribute("#candidates li:first-child .hands img", "alt")
    assert alt == "国, old form 1: painted by the model, not a historical image"
    assert "no historical images" in page.inner_text("#hands-about")
    assert "brush fonts" in page.inner_text("#hands-about")
    assert "國" in page.inner_text("#candidates li:first-child .others")
    page.select_option("#forms", "old")
    until(page, "document.querySelector('#candidates .kanji')?.textContent === '國'")
    page.wait_for_selector("#answer:not([hidden])")
    assert "国" in page.inner_text("#candidates li:first-child .others")
    page.click("#share")
    page.wait_for_selector("#link-shown:not([hidden])")
    link = page.input_value("#link")
    assert "forms=old" in link
    again = open_page("/" + link[link.index("#") :])
    again.wait_for_selector("#answer:not([hidden])")
    assert again.inner_text("#candidates li:first-child .kanji") == "國"
    assert again.input_value("#forms") == "old"
    page.click("[data-language=ja]")
    assert "史料の画像ではありません" in page.inner_text("#hands-about")
    broken = open_page("/" + link[link.index("#") :].replace("forms=old", "forms=x"))
    broken.wait_for_selector("#problem:not(:empty)")
    assert "damaged" in broken.inner_text("#problem")


def test_without_old_hands_nothing_is_asked_twice(open_page, model, monkeypatch):
    monkeypatch.setattr(model, "old_hands", None)
    page, asked = open_page("/"), []
    page.on("request", lambda r: asked.append(r.url) if "old-hands" in r.url else None)
    for number in (1, 2, 3):
        page.click(f"#examples li:nth-child({number}) button")
        page.wait_for_selector("#answer:not([hidden])")
        page.wait_for_timeout(500)
    assert len(asked) == 1 and page.is_hidden("#hands-about")
    assert page.locator(".hands").count() == 0


def test_old_hands_and_forms_on_a_page(open_page, hands, until, examples):
    page = open_page("/page.html")
    picture = Image.open(io.BytesIO(examples[4])).convert("RGB")
    sheet = Image.new("RGB", (600, 600), "white")
    sheet.paste(picture, (200, 150))
    sheet.save(file := io.BytesIO(), "PNG")
    put = lambda name, kind, content: page.set_input_files(
        "#file", {"name": name, "mimeType": kind, "buffer": content}
    )
    put("kuni.png", "image/png", file.getvalue())
    until(page, "document.documentElement.dataset.looked > 0")
    stage = page.locator("#stage").bounding_box()
    scale = min(stage["width"], stage["height"]) / 600
    at = lambda x, y: (
        stage["x"] + stage["width"] / 2 + scale * (x - 300),
        stage["y"] + stage["height"] / 2 + scale * (y - 300),
    )
    page.check("#by-hand")
    page.evaluate("scrollTo(0, 0)")
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(*at(200, 150))
    page.mouse.down()
    page.mouse.move(*at(300, 300))
    page.mouse.move(*at(200 + picture.width, 150 + picture.height))
    page.mouse.up()
    page.wait_for_selector("#choices .hands img", timeout=120_000)
    first = page.locator(".choice").first
    assert first.locator("input").evaluate_all("all => all.map((i) => i.value)") == ["国", "國"]
    assert first.locator(".hands").count() == 2
    assert "old form" in first.locator("img").first.get_attribute("alt")
    assert "no historical images" in page.inner_text("#hands-about")
    assert page.inner_text("#text").strip() == "国"
    page.select_option("#forms", "old")
    until(page, "document.getElementById('text').textContent.trim() === '國'", 120)
    with page.expect_download() as waiting:
        page.click("#save")
    saved = json.loads(open(waiting.value.path(), encoding="utf-8").read())
    assert saved["forms"] == "old"
    page.click("#undo")
    until(page, "document.getElementById('text').textContent.trim() === '国'")
    assert page.input_value("#forms") == "as-read"
    # A saved file says which forms it was read with; one from before that is as read.
    for forms, text in (("old", "國"), (None, "国"), ("newer", None)):
        document = {k: v for k, v in (saved | {"forms": forms}).items() if v is not None}
        if forms is None:
            document["items"][0]["reading"] = None
        put("work.json", "application/json", json.dumps(document).encode())
        if text is None:
            assert "forms" in told(page)
            continue
        page.wait_for_timeout(300)
        if page.is_visible("#ask"):
            page.click("#ask-yes")
        until(page, f"document.getElementById('text').textContent.trim() === '{text}'", 120)
