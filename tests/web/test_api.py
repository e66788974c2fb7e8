"""The server's answers, to friend and foe."""

import http.client
import io
import json
import logging
import struct
import sys
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from lxml import etree
from PIL import Image

pytest.importorskip("starlette", reason="no starlette here; pip install '.[serve]'")
pytest.importorskip("python_multipart", reason="no python-multipart here; pip install '.[serve]'")
pytest.importorskip("uvicorn", reason="no uvicorn here; pip install '.[serve]'")
pytest.importorskip(
    "httpx2", reason="no httpx2 here, which Starlette's test client needs; pip install '.[test]'"
)
from starlette.testclient import TestClient

from transfer.inference.images import read_image
from transfer.output.drawn import OldHand
from transfer.web import app
from transfer.web.answer import answer, encode
from transfer.web.guard import HEADERS
from transfer.web.queue import Busy, Queue

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def client(model):
    with TestClient(app(model, max_bytes=2_000_000), HERE) as found:
        yield found


@pytest.fixture(scope="module")
def first(client, examples):
    """The answer for the first example."""
    return client.post("/api/transfer?samples=3&seed=5", content=examples[0])


def one_line(response, status):
    assert response.status_code == status, response.text
    described = response.json()
    assert (
        list(described) == ["error"]
        and len(described["error"]) > 10
        and "\n" not in described["error"]
    ), described
    assert all(response.headers[name] == value for name, value in HEADERS.items())
    return described["error"]


def png(width, height, rows=b"", mode=0):
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    header = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def saved(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


# ---- Answers


def test_answer_is_what_the_model_makes_of_the_picture(first, model, examples):
    read = read_image(examples[0])
    [result] = model.transfer(read.image, samples=3, seed=5)
    assert first.status_code == 200 and first.headers["content-type"] == "application/json"
    assert first.content == encode(answer(result, read, 5, model.temperature))
    found = first.json()
    assert (
        np.array_equal(found["image"], result.image)
        and found["samples"] == 3
        and found["seed"] == 5
    )
    assert found["verdict"] == result.verdict in ("sure", "not sure", "not a kanji")
    assert (
        found["familiarity"] is None
        if np.isnan(result.familiarity)
        else abs(found["familiarity"] - result.familiarity) < 1e-3
    )
    assert np.allclose(found["pixels"], result.pixels, atol=1e-4) and np.allclose(
        found["uncertainty"], result.uncertainty, atol=1e-4
    )
    assert [(c["character"], c["code_point"]) for c in found["candidates"]] == [
        (c, f"U+{ord(c):04X}") for c, _ in result.candidates
    ]
    for drawing, strokes in zip(found["drawings"], result.strokes, strict=True):
        assert all(
            np.allclose(a, b, atol=0.006) for a, b in zip(drawing["strokes"], strokes, strict=True)
        )
        paths = etree.fromstring(drawing["svg"].encode()).findall(
            ".//{http://www.w3.org/2000/svg}path"
        )
        assert len(paths) == len(strokes) > 0


def test_a_form_and_the_image_as_read_give_the_same_drawings(client, first, examples):
    form = client.post(
        "/api/transfer?samples=3&seed=5",
        files={"picture": ("a.png", examples[0])},
        data={"more": "text"},
    )
    assert form.content == first.content
    again = client.post(
        "/api/transfer?samples=3&seed=5&pixels=1", content=bytes(np.uint8(first.json()["image"]))
    )
    assert (
        again.json()["drawings"] == first.json()["drawings"]
        and again.json()["image"] == first.json()["image"]
    )


def test_seed_samples_and_top_are_obeyed(client, first, examples):
    other = client.post(
        "/api/transfer?samples=1&seed=6&top=4&temperature=0.5", content=examples[0]
    ).json()
    assert (
        len(other["drawings"]) == 1
        and len(other["candidates"]) == 4
        and (other["seed"], other["temperature"]) == (6, 0.5)
    )
    assert [d["strokes"] for d in other["drawings"]] != [
        d["strokes"] for d in first.json()["drawings"] if d["sample"] == 0
    ]


def test_many_at_once_get_what_each_gets_alone(address, model, examples):
    def ask(content):
        connection = http.client.HTTPConnection(*address, timeout=120)
        connection.request("POST", "/api/transfer?samples=3", content)
        return connection.getresponse().read()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, examples * 2))
    for content, found in zip(examples * 2, answers):
        read = read_image(content)
        [result] = model.transfer(read.image, samples=3)
        assert found == encode(answer(result, read, 0, model.temperature))


def test_health_and_examples(client):
    health = client.get("/api/health").json()
    assert (
        health["status"] == "ready"
        and health["waiting"] == 0
        and health["limits"]["bytes"] == 2_000_000
    )
    listed = client.get("/api/examples").json()
    assert (
        len(listed) == 8
        and {"kanji": "神", "code_point": "U+795E", "name": "kami", "url": listed[3]["url"]}
        == listed[3]
    )
    for example in listed:
        with Image.open(io.BytesIO(client.get("/" + example["url"]).content)) as picture:
            assert picture.format == "PNG"


# ---- Bad pictures

BAD = {
    "empty": (b"", 400, "empty"),
    "cut short": (
        saved(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))[:2000],
        400,
        "damaged",
    ),
    "0x0": (png(0, 0), 415, "not a picture"),
    "bomb": (png(60_000, 60_000, bytes(1000)), 413, "too large"),
    "bomb within the pixels": (png(29_000, 3_000, bytes(100_000)), 400, "damaged"),
    "100,000 wide": (saved(np.zeros((1, 100_000), np.uint8)), 413, "too large"),
    "svg": (
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0h9"/></svg>',
        415,
        "SVG",
    ),
    "text": ("神".encode() * 50, 415, "not a picture"),
    "pdf": (b"%PDF-1.7\n" + bytes(500), 415, "not a picture"),
    "blank": (saved(np.full((90, 90), 255, np.uint8)), 400, "no ink"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_picture_is_one_line(client, kind):
    content, status, words = BAD[kind]
    assert words in one_line(client.post("/api/transfer", content=content), status)


def test_animation_is_drawn_from_its_first_frame(client, examples):
    frames = [Image.open(io.BytesIO(e)).convert("L").resize((80, 80)) for e in examples[1:4]]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    found = client.post("/api/transfer?samples=1", content=file.getvalue()).json()
    alone = client.post(
        "/api/transfer?samples=1",
        content=saved(np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))),
    ).json()
    assert found["drawings"] == alone["drawings"]


@pytest.mark.parametrize(
    "query",
    [
        "samples=0",
        "samples=51",
        "samples=ten",
        "samples=" + "9" * 5000,
        "seed=-1",
        "seed=2147483648",
        "top=0",
        "temperature=0",
        "temperature=nan",
        "temperature=1.5",
        "temperature=inf",
        "pixels=2",
        "sample=3",
        "forms=older",
    ],
)
def test_bad_number_is_one_line(client, examples, query):
    assert query.partition("=")[0] in one_line(
        client.post(f"/api/transfer?{query}", content=examples[0]), 400
    )


def test_wrong_number_of_pixels(client, examples):
    assert "4096" in one_line(client.post("/api/transfer?pixels=1", content=examples[0]), 400)


@pytest.mark.parametrize(
    "body, kind",
    [
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
        (b"abc", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhi\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_broken_form_is_one_line(client, body, kind):
    assert "form" in one_line(
        client.post("/api/transfer", content=body, headers={"content-type": kind}), 400
    )


def test_form_of_many_parts_is_not_read(client):
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhi\r\n' * 200 + b"--x--\r\n"
    assert "parts" in one_line(
        client.post(
            "/api/transfer",
            content=body,
            headers={"content-type": "multipart/form-data; boundary=x"},
        ),
        400,
    )


def test_upload_over_the_limit_is_refused_declared_or_not(client):
    large = bytes(2_000_001)
    assert "2 MB" in one_line(client.post("/api/transfer", content=large), 413)
    assert "2 MB" in one_line(
        client.post(
            "/api/transfer", content=(large[at : at + 65536] for at in range(0, len(large), 65536))
        ),
        413,
    )
    assert client.get("/api/health").json()["waiting"] == 0


def test_uploads_touch_neither_disk_nor_log(client, monkeypatch, caplog):
    noise = saved(np.random.default_rng(1).integers(0, 255, (1300, 1300), np.uint8))
    assert len(noise) > 1_600_000

    def refuse(*_, **__):
        raise AssertionError("a temporary file was made")

    caplog.set_level(logging.INFO)
    for name in ("mkstemp", "TemporaryFile", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    response = client.post("/api/transfer?samples=1", files={"image": ("secret-name.png", noise)})
    assert response.status_code in (200, 400), response.text
    assert "secret-name" not in caplog.text


# ---- Strangers


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/api/transfer"),
        ("PUT", "/api/transfer"),
        ("DELETE", "/api/health"),
        ("POST", "/"),
        ("POST", "/static/main.js"),
        ("TRACE", "/"),
    ],
)
def test_wrong_method(client, method, path):
    one_line(client.request(method, path), 405)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static/..%5cserver.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/examples",
        "/static",
        "/../../etc/passwd",
        "/api/nothing",
        "/static/" + "a" * 5000,
    ],
)
def test_no_way_out_of_the_static_folder(address, path):
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    described = json.loads(response.read())
    assert response.status == 404 and list(described) == ["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:9000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": HERE, "sec-fetch-site": "cross-site"},
    ],
)
def test_posts_from_other_pages_are_refused(client, examples, headers):
    assert "other sites" in one_line(
        client.post("/api/transfer", content=examples[0], headers=headers), 403
    )


def test_posts_from_our_own_page_are_not(client, examples):
    headers = {"origin": HERE, "sec-fetch-site": "same-origin"}
    assert (
        client.post("/api/transfer?samples=1", content=examples[0], headers=headers).status_code
        == 200
    )


def test_posts_through_a_proxy_that_has_a_name_of_ours(model, examples):
    """nginx sends the browser's Origin, and as Host, unless it is told otherwise, the address that
    it asks."""
    asked = lambda origin, *hosts: (
        TestClient(app(model, hosts=hosts), HERE)
        .post(
            "/api/transfer?samples=1",
            content=examples[0],
            headers={"origin": origin, "sec-fetch-site": "same-origin"},
        )
        .status_code
    )
    assert (
        asked("https://kanji.example", "kanji.example")
        == asked("https://kanji.example:8443", "Kanji.Example")
        == 200
    )
    for origin in ("https://kanji.example", "null", "http://[", "https://a.kanji.example"):
        assert asked(origin) == 403 and (
            origin == "https://kanji.example" or asked(origin, "kanji.example") == 403
        )


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "192.168.0.7",
        "[::1",
        "",
        "a@b:c",
    ],
)
def test_foreign_host_is_refused(client, name):
    for path in ("/", "/api/health", "/static/main.js"):
        one_line(client.get(path, headers={"host": name}), 400)


def test_hosts_that_are_ours(model):
    answers = lambda name, **options: (
        TestClient(app(model, **options), HERE)
        .get("/api/health", headers={"host": name})
        .status_code
    )
    assert all(
        answers(name) == 200
        for name in ("localhost", "LocalHost:99", "127.0.0.1:8000", "[::1]:8000")
    )
    assert (
        answers("10.0.0.5:8000", host="10.0.0.5")
        == answers("kuzushiji.example", hosts=("kuzushiji.example",))
        == 200
    )
    assert (
        answers("192.168.0.7:8000", host="0.0.0.0") == 200
        and answers("evil.example", host="0.0.0.0") == 400
    )


@pytest.mark.parametrize(
    "path", ["/", "/static/main.js", "/static/style.css", "/api/health", "/nothing"]
)
def test_every_answer_has_safe_headers(client, path):
    headers = client.get(path).headers
    assert all(headers[name] == value for name, value in HEADERS.items())
    assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
    assert "unsafe" not in headers["content-security-policy"] and "server" not in headers


def test_scripts_have_the_type_that_browsers_insist_on(client):
    assert client.get("/static/main.js").headers["content-type"].startswith("text/javascript")


# ---- Load and accidents


class Slow:
    """The real model, but it waits for `go` and counts how many are at work at once."""

    def __init__(self, model):
        self.model, self.temperature = model, model.temperature
        self.go, self.begun, self.lock = threading.Event(), threading.Semaphore(0), threading.Lock()
        self.at_work = self.most = 0

    def transfer(self, image, **options):
        with self.lock:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        self.begun.release()
        assert self.go.wait(120)
        with self.lock:
            self.at_work -= 1
        return self.model.transfer(image, **options)


def test_one_at_a_time_and_503_when_the_line_is_full(model, examples, serving):
    slow = Slow(model)
    with serving(slow, max_waiting=3) as address, ThreadPoolExecutor(3) as pool:

        def ask():
            connection = http.client.HTTPConnection(*address, timeout=120)
            connection.request("POST", "/api/transfer?samples=1", examples[0])
            response = connection.getresponse()
            return response.status, response.headers, json.loads(response.read())

        def waiting():
            connection = http.client.HTTPConnection(*address, timeout=60)
            connection.request("GET", "/api/health")
            return json.loads(connection.getresponse().read())["waiting"]

        held = [pool.submit(ask) for _ in range(3)]
        assert slow.begun.acquire(timeout=60)
        while waiting() < 3:
            pass
        status, headers, described = ask()
        assert (
            status == 503
            and 1 <= int(headers["retry-after"]) < 60
            and "too many" in described["error"]
        )
        slow.go.set()
        assert [future.result()[0] for future in held] == [200, 200, 200]
        assert ask()[0] == 200 and waiting() == 0
    assert slow.most == 1


def test_uploads_that_are_held_are_bounded_in_bytes():
    queue = Queue(longest=5, room=100)
    with queue.place(500):  # alone, anything that the limit on uploads lets through
        with pytest.raises(Busy, match="try again in 1 s"), queue.place(1):
            pass
    with queue.place(60), queue.place(40):
        assert (queue.waiting, queue.held) == (2, 100)
        with pytest.raises(Busy), queue.place(1):
            pass
    assert (queue.waiting, queue.held) == (0, 0)


def test_a_reader_who_left_costs_no_work(model, examples, serving):
    slow = Slow(model)
    with serving(slow) as address:
        connections = [http.client.HTTPConnection(*address, timeout=60) for _ in range(3)]
        for connection in connections:
            connection.request("POST", "/api/transfer?samples=1", examples[0])
            if connection is connections[0]:
                assert slow.begun.acquire(timeout=60)
        health = http.client.HTTPConnection(*address, timeout=60)
        while True:
            health.request("GET", "/api/health")
            if json.loads(health.getresponse().read())["waiting"] == 3:
                break
        connections[1].close()
        slow.go.set()
        assert connections[0].getresponse().status == connections[2].getresponse().status == 200
    assert slow.begun.acquire(timeout=1) and not slow.begun.acquire(
        blocking=False
    )  # two worked, not three


def test_an_accident_is_one_line(model, examples):
    class Broken(Slow):
        def transfer(self, image, **options):
            raise RuntimeError("no memory left at 0x1234")

    with TestClient(app(Broken(model)), HERE, raise_server_exceptions=False) as client:
        assert "0x1234" not in one_line(client.post("/api/transfer", content=examples[0]), 500)
        assert client.get("/api/health").json()["waiting"] == 0


def test_a_page_that_browsers_do_not_show_becomes_png(client):
    page = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    answered = client.post("/api/picture", content=saved(page, "TIFF"))
    assert answered.headers["content-type"] == "image/png"
    assert all(answered.headers[name] == value for name, value in HEADERS.items())
    assert (np.asarray(Image.open(io.BytesIO(answered.content))) == page).all()
    # Of 12 bits in 16, the darkest is black and the brightest white; EXIF's rotation is applied.
    deep = io.BytesIO()
    Image.fromarray(np.linspace(100, 4095, 1200).reshape(40, 30).astype(np.uint16)).save(
        deep, "TIFF"
    )
    grey = np.asarray(
        Image.open(io.BytesIO(client.post("/api/picture", content=deep.getvalue()).content))
    )[..., 0].astype(int)
    assert grey[0, 0] == 0 and grey[-1, -1] == 255 and (np.diff(grey.ravel()) >= 0).all()
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(page).save(turned := io.BytesIO(), "PNG", exif=tags)
    answered = client.post("/api/picture", content=turned.getvalue())
    assert Image.open(io.BytesIO(answered.content)).size == (40, 30)


def test_a_page_that_is_none_is_one_line(client):
    whole = saved(np.zeros((40, 30), np.uint8), "TIFF")
    assert "empty" in one_line(client.post("/api/picture", content=b""), 400)
    assert "not a picture" in one_line(client.post("/api/picture", content=b"text"), 415)
    one_line(client.post("/api/picture", content=whole[:-20]), 400)
    wide = png(100_000, 8)
    assert "100000 by 8" in one_line(client.post("/api/picture", content=wide), 413)
    # A file of pages may be five times as large as the picture of a character.
    large = client.post("/api/picture", content=b"x" * 10_000_001)
    assert "larger than 10 MB; save fewer pages" in one_line(large, 413)
    one_line(client.get("/api/picture"), 405)
    foreign = client.post("/api/picture", content=whole, headers={"origin": "http://evil.example"})
    one_line(foreign, 403)


def test_the_form_that_is_asked_for_leads(client, examples, model):
    kuni = examples[4]
    assert "U+56FD" in client.get("/api/examples").json()[4]["code_point"]
    for forms in ("as-read", "modern", "old"):
        found = client.post(f"/api/transfer?samples=1&top=1&forms={forms}", content=kuni).json()
        [result] = model.transfer(read_image(kuni).image, samples=1, top=1, forms=forms)
        assert found["forms"] == forms
        assert found["candidates"][0]["character"] == result.candidates[0][0]
        if forms != "as-read":
            assert found["candidates"][0]["character"] == {"modern": "国", "old": "國"}[forms]


# ---- Old hands


class Hands:
    """Stands in for prototypes: a picture of each kanji but 〇, as far as z_old is from 0."""

    source, attribution = "painted", ""

    def of(self, characters, z_old, most=4):
        picture = np.arange(4096, dtype=np.uint16).reshape(64, 64).astype(np.uint8)
        hand = OldHand(picture, float(np.linalg.norm(z_old)))
        return [() if c == "〇" else (hand,) for c in characters]


def test_old_hands_stand_beside_any_kanji(model, examples, monkeypatch):
    monkeypatch.setattr(model, "old_hands", Hands())
    [result] = model.read(read_image(examples[0]).image)
    with TestClient(app(model), HERE) as client:
        answered = client.post("/api/old-hands?of=国國国〇", content=examples[0])
        found = answered.json()
        assert list(found["hands"]) == ["国", "國"] and found["source"] == "painted"
        [hand] = found["hands"]["國"]
        assert hand["painted"] is True and hand["name"] == ""
        assert abs(hand["distance"] - np.linalg.norm(result.z_old)) < 1e-3
        assert all(answered.headers[name] == value for name, value in HEADERS.items())
        again = client.post("/api/old-hands?of=国國〇&pixels=1", content=bytes(result.image))
        assert again.json() == found
        for query, content, words in (
            ("", examples[0], "of names 0"),
            ("of=" + "".join(map(chr, range(0x4E00, 0x4E00 + 61))), examples[0], "of names 61"),
            ("of=国&samples=3", examples[0], "no parameter 'samples'"),
            ("of=国&pixels=1", examples[0], "4096"),
            ("of=国", b"", "empty"),
        ):
            assert words in one_line(client.post(f"/api/old-hands?{query}", content=content), 400)
        one_line(client.get("/api/old-hands?of=国"), 405)


def test_where_the_weights_have_no_old_hands_there_are_none(model, examples, monkeypatch):
    monkeypatch.setattr(model, "old_hands", None)
    with TestClient(app(model), HERE) as client:
        found = client.post("/api/old-hands?of=国", content=examples[0])
        assert found.json() == {"source": None, "attribution": "", "hands": {}}


def test_with_a_data_folder_they_are_its_images(model, examples, monkeypatch):
    from transfer.data import corpus
    from transfer.web.listen import show_images

    monkeypatch.setattr(model, "old_hands", None)
    show_images(model, found := corpus.load(quiet=True))
    with TestClient(app(model), HERE) as client:
        answered = client.post("/api/old-hands?of=国", content=examples[4]).json()
    assert answered["source"] == "images"
    names = set(np.asarray(found.old.names)[found.old.code_points == ord("国")])
    shown = [hand["name"] for hand in answered["hands"]["国"]]
    assert len(shown) == 4 and set(shown) <= names


# ---- Pages of files that have several


def pdf_of(*shades):
    """A PDF with a page of 72 x 144 points in each of the greys (0 to 1)."""
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    page = Canvas(file, (72, 144))
    for shade in shades:
        page.setFillGray(shade)
        page.rect(-1, -1, 80, 150, stroke=0, fill=1)
        page.showPage()
    page.save()
    return file.getvalue()


def test_a_page_of_a_pdf(client):
    pytest.importorskip("pypdfium2", reason="no pypdfium2 here; pip install '.[pdf]'")
    content = pdf_of(0.2, 0.8)
    for number, grey in ((1, 51), (2, 204)):
        answered = client.post(f"/api/picture?page={number}", content=content)
        assert answered.status_code == 200 and answered.headers["pages"] == "2"
        picture = Image.open(io.BytesIO(answered.content))
        assert picture.format == "PNG" and picture.size == (300, 600)
        assert abs(np.asarray(picture)[300, 150].astype(int) - grey).max() <= 1
    assert "no page 3; the file has 2" in one_line(
        client.post("/api/picture?page=3", content=content), 400
    )
    for wrong in ("0", "-1", "x", "1.5", "9" * 400):
        assert "page is" in one_line(
            client.post(f"/api/picture?page={wrong}", content=content), 400
        )
    assert "damaged" in one_line(
        client.post("/api/picture", content=b"%PDF-1.7\n" + bytes(99)), 400
    )


def test_a_locked_pdf_is_one_line(client):
    pytest.importorskip("pypdfium2", reason="no pypdfium2 here; pip install '.[pdf]'")
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    page = Canvas(file, encrypt="secret")
    page.showPage()
    page.save()
    assert "password" in one_line(client.post("/api/picture", content=file.getvalue()), 400)


def test_a_package_that_is_missing_is_named(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    assert "pip install pypdfium2" in one_line(
        client.post("/api/picture", content=pdf_of(0.5)), 415
    )
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = b"\0\0\0\x18ftypheic" + bytes(99)
    assert "pip install pillow-heif" in one_line(client.post("/api/picture", content=heic), 415)


def test_pages_of_a_tiff(client):
    shades = [Image.new("L", (30, 40), shade) for shade in (20, 200)]
    shades[0].save(file := io.BytesIO(), "TIFF", save_all=True, append_images=shades[1:])
    for number, shade in ((1, 20), (2, 200)):
        answered = client.post(f"/api/picture?page={number}", content=file.getvalue())
        assert answered.headers["pages"] == "2"
        assert (np.asarray(Image.open(io.BytesIO(answered.content))) == shade).all()
    assert "no page 3" in one_line(client.post("/api/picture?page=3", content=file.getvalue()), 400)


def test_only_the_page_for_whole_pages_may_fetch_elsewhere(client):
    policy = lambda path: client.get(path).headers["content-security-policy"]
    assert policy("/page.html") == policy("/") + "; connect-src 'self' https: http:"
    assert policy("/static/page/worker.js") == policy("/") == HEADERS["Content-Security-Policy"]
    assert "default-src 'self'" in policy("/") and "connect-src" not in policy("/")
