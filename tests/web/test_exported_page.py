"""The exported folder in headless Chromium, from `http.server`, with every other address blocked:
the answers equal Python's, without any server's help, and at the end without a network."""

import base64
import functools
import http.server
import importlib.util
import io
import json
import os
import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jax2onnx", reason="no jax2onnx here; pip install '.[export]'")
pytest.importorskip("onnxruntime", reason="no onnxruntime here; pip install '.[export]'")
pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install '.[test]'")

import glossary_steps
import page_steps

from transfer import cli
from transfer.export import runtime
from transfer.inference.images import read_image
from transfer.output.formats import old_hands
from transfer.system.errors import DataError
from transfer.web.answer import answer

pytestmark = pytest.mark.slow  # two minutes on two cores
ROOT = Path(__file__).resolve().parents[2]
ASK = """async ([text, settings]) => {
    const {transfer} = await import('/static/engine.js');
    const blob = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
    return transfer(blob, settings, new AbortController().signal, () => {});
}"""
READ = """async (text) => {
    const {read} = await import('/static/engine/browser.js');
    const {image} = await read(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]));
    return [...image];
}"""
HANDS = """async ([text, of]) => {
    const {oldHands} = await import('/static/engine.js');
    return oldHands(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]), of);
}"""
NORMAL = """async (count) => {
    const {key, normal} = await import('/static/engine/random.js');
    return [...normal(key(5), count)];
}"""
ATTEMPTS = """async (enough) => {
    const {draw} = await import('/static/engine/strokes.js');
    const {key} = await import('/static/engine/random.js');
    const model = {attempts: 3, enough, points: 2, grid: 16, canvas: 32, box: 109, ink_width: 4,
        fit_steps: 0, mean: [20, 20, 60, 60], deviation: [9, 9, 9, 9],
        axes: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]};
    const written = [];
    const tensor = (...dims) => ({dims, data: new Float32Array(dims.reduce((a, b) => a * b))});
    const run = async (name, {z_new, code}) => {
        if (name === 'stroke_plan') {
            const [n] = z_new.dims;
            return {count: {data: new Int32Array(n).fill(2)}, coarse: tensor(n, 256),
                context: tensor(n, 1), features: tensor(n, 256, 1), h: tensor(n, 1),
                c: tensor(n, 1)};
        }
        const [n] = code.dims;
        written.push(n);
        return {h_next: tensor(n, 1), c_next: tensor(n, 1), log_weights: tensor(n, 1),
            means: tensor(n, 1, 4), log_scales: tensor(n, 1, 4)};
    };
    const picture = new Float32Array(4096).fill(0.5), z = new Float32Array(1);
    const jobs = [0, 1].map((seed) => ({z, picture, key: key(seed)}));
    return [written, (await draw({run}, model, jobs, 1, async () => {})).map(({alike}) => alike)];
}"""
"""Drawings of two strokes by a decoder that knows nothing: rows of every step, and likenesses."""
ACTIVE = "navigator.serviceWorker.ready.then((found) => found.active.state === 'activated')"


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Path:
    """The npm package onnxruntime-web: what $KUZUSHIJI_ORT names, else as npm fetches it."""
    if named := os.environ.get("KUZUSHIJI_ORT"):
        return Path(named)
    try:
        found = runtime.gather(None)
    except DataError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("onnxruntime-web")
    (folder / "dist").mkdir()
    for name, content in found.files.items():
        (folder / "dist" / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def site(archive, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "site"
    assert cli.main(["export", str(folder), "--runtime", str(archive), "--quiet"]) == 0
    assert [path.name for path in folder.parent.iterdir()] == ["site"]
    assert sum(path.stat().st_size for path in (folder / "models").iterdir()) <= 25_000_000
    return folder


class Folder:
    """`with Folder(path) as address`: what `python -m http.server -d path` serves."""

    def __init__(self, path: Path):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Quiet, directory=path)
        )

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def visit(browser):
    """visit(address, path, **context options): the page, with every other address blocked. What
    asked for one, and errors of scripts, fail the test. instead: end of a path, and the text that
    the server gives there."""
    contexts, problems = [], []

    def visited(address, path="/", ready=True, instead=None, **options):
        options = {"locale": "en-GB", "reduced_motion": "reduce"} | options
        contexts.append(browser.new_context(**options))

        def guard(route):
            if instead and route.request.url.endswith(instead[0]):
                return route.fulfill(body=instead[1], content_type="text/javascript")
            if route.request.url.startswith(f"{address}/"):
                return route.continue_()
            problems.append(route.request.url)
            route.abort()

        contexts[-1].route("**/*", guard)
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address + path)
        if ready:
            page.wait_for_selector("html[data-ready]")
            page.wait_for_selector("html[data-engine]")
        return page

    yield visited
    for context in contexts:
        context.close()
    assert not problems, problems


@pytest.fixture(scope="session")
def address(site):
    with Folder(site) as found:
        yield found


@pytest.fixture
def page(visit, address):
    return visit(address, service_workers="block")


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def disturbances():
    """`experiments/disturbances.py`."""
    path = ROOT / "experiments" / "disturbances.py"
    spec = importlib.util.spec_from_file_location("disturbances", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_example_is_read_as_python_reads_it(page, model, examples):
    page.click("#examples li:nth-child(4) button")
    page.wait_for_selector("#answer:not([hidden])")
    read = read_image(examples[3])
    [result] = model.transfer(read.image)
    assert page.locator("#candidates .kanji").all_inner_texts() == [
        character for character, _ in result.candidates
    ]
    assert page.locator("#drawings label").count() == 10
    assert "go nowhere" in page.inner_text("footer")
    with page.expect_download() as waiting:
        page.click("#json")
    found = json.loads(Path(waiting.value.path()).read_text("utf-8"))
    wanted = answer(result, read, 0, model.temperature)
    assert found.keys() == wanted.keys()
    for name in ("verdict", "note", "used", "image", "samples", "seed", "temperature", "box"):
        assert found[name] == wanted[name], name
    assert found["familiarity"] == pytest.approx(wanted["familiarity"], abs=0.01)
    for mine, other in zip(found["candidates"], wanted["candidates"]):
        assert mine["probability"] == pytest.approx(other["probability"], abs=0.02)
        assert [f["character"] for f in mine["forms"]] == [f["character"] for f in other["forms"]]
    for name in ("pixels", "uncertainty"):
        assert np.abs(np.subtract(found[name], wanted[name])).max() < 0.02
    # The same seed draws the same strokes.
    for mine, other in zip(*(sorted(x["drawings"], key=sample) for x in (found, wanted))):
        assert mine["character"] == other["character"]
        assert len(mine["strokes"]) == len(other["strokes"])
        for stroke, its in zip(mine["strokes"], other["strokes"]):
            assert np.abs(np.subtract(stroke, its)).max() < 1
        assert mine["svg"].count("<path") == other["svg"].count("<path")
        assert mine["svg"].splitlines()[:2] != [] and outline(mine["svg"]) == outline(other["svg"])


def sample(drawing: dict) -> int:
    return drawing["sample"]


def outline(svg: str) -> list[str]:
    """The lines of an SVG without numbers."""
    digits = str.maketrans("", "", "0123456789.-abcdef")
    return [line.split(" d=")[0].translate(digits) for line in svg.splitlines()]


def test_random_numbers_are_those_of_jax(page):
    found = page.evaluate(NORMAL, 50_000)
    wanted = jax.random.normal(jax.random.key(5), (50_000,))
    # Some would be ten times as far if a square in it were not rounded to float32.
    assert np.abs(np.subtract(found, wanted)).max() < 2e-6


def test_attempts_beyond_the_first_are_for_drawings_that_are_unlike(page):
    written, first = page.evaluate(ATTEMPTS, -1)
    assert written == [2, 2]
    written, best = page.evaluate(ATTEMPTS, 2)
    assert written == [2, 2, 4, 4] and all(a >= b for a, b in zip(best, first)) and best != first
    # One of them is like enough.
    written, kept = page.evaluate(ATTEMPTS, max(first))
    assert written == [2, 2, 2, 2] and max(first) in kept


def test_pictures_are_made_64x64_as_python_does_it(page, examples):
    module = disturbances()
    pages = [module.page_of(read_image(content).image) for content in examples[1:4]]
    apart = []
    for number, (name, disturb) in enumerate(module.KINDS.items()):
        if name in ("CMYK TIFF", "HEIC"):
            continue
        rng = np.random.default_rng([1, number])
        made = disturb(rng, pages[number % 3], pages[number % 3 - 1])
        made = Image.fromarray(made) if isinstance(made, np.ndarray) else made
        content = made if isinstance(made, bytes) else module.encoded(made, "PNG")
        found = np.reshape(page.evaluate(READ, encoded(content)), (64, 64))
        apart.append(np.abs(found - read_image(content).image.astype(float)).mean())
        assert apart[-1] < 8, name
    assert np.mean(apart) < 0.5 and len(apart) > 18
    # A picture of the data set comes back as it is.
    published = read_image(examples[0]).image
    content = module.encoded(Image.fromarray(published), "PNG")
    assert (np.reshape(page.evaluate(READ, encoded(content)), (64, 64)) == published).all()


@pytest.mark.parametrize("path", ["/", "/page.html"])
def test_the_glossary_is_there_too(visit, address, path):
    glossary_steps.open_and_read(visit(address, path, service_workers="block"))


def test_what_cannot_be_read_is_said(page, examples):
    for content, told in (
        (b"", "is empty"),
        (b"just text", "cannot open this kind of file"),
        (blank(), "no ink found"),
        (examples[0][:300], "cannot open this kind of file"),
    ):
        page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": content})
        page.wait_for_selector("#problem:not(:empty)")
        assert told in page.inner_text("#problem")
        page.click("#examples li:nth-child(1) button")
        page.wait_for_selector("#answer:not([hidden])")
        assert page.inner_text("#problem") == ""


def blank() -> bytes:
    file = io.BytesIO()
    Image.new("L", (90, 90), 240).save(file, "PNG")
    return file.getvalue()


def test_a_whole_page_is_read_too(visit, address, examples, until):
    page = visit(address, "/page.html", service_workers="block")
    sheet = Image.new("RGB", (500, 560), (226, 210, 178))
    for row, content in enumerate(examples[2:4]):
        ink = Image.fromarray(read_image(content).image).resize((110, 110))
        sheet.paste((40, 34, 30), (190, 80 + 240 * row), ink)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    page_steps.put(page, file.getvalue())
    until(page, "document.documentElement.dataset.looked > 0")
    left, top, width, height = page.evaluate("""() => {
        const stage = document.getElementById('stage'), area = stage.getBoundingClientRect();
        return [area.left + stage.clientLeft, area.top + stage.clientTop,
            stage.clientWidth, stage.clientHeight];
    }""")
    scale = min(width / 500, height / 560)
    # On ink, in a middle row of each character.
    for row in range(2):
        y = 80 + 240 * row + 55
        dark = np.flatnonzero(np.asarray(sheet.convert("L"))[y] < 90)
        x = int(dark[len(dark) // 2])
        page.mouse.click(
            left + (width - 500 * scale) / 2 + x * scale,
            top + (height - 560 * scale) / 2 + y * scale,
        )
    until(page, "document.querySelectorAll('.entry[data-verdict]').length === 2", 200)
    assert len(page.inner_text("#text").strip()) >= 2
    assert page.locator("#list svg path").count() > 4
    assert page.inner_text("#problem") == "" and "nothing goes anywhere" in page.inner_text(
        "footer"
    )


@pytest.mark.long  # a minute: CI clicks on the served page
def test_twelve_clicks_on_the_letter(visit, address, letter, until):
    content, size, boxes = letter
    page = visit(
        address, "/page.html", service_workers="block", viewport={"width": 1280, "height": 900}
    )
    page_steps.put(page, content, "sheet.jpg", "image/jpeg")
    until(page, "document.documentElement.dataset.looked > 0")
    page_steps.way_of_a_reader(page, boxes[::9][:12], until, size)


def test_without_a_network_it_still_reads(visit, site, model, examples, until):
    with Folder(site) as address:
        page = visit(address)
        until(page, ACTIVE, 200)
    # The server is gone: from now on the service worker answers.
    page.goto(f"{address}/page.html")
    page.wait_for_selector("html[data-ready]")
    page.goto(address)
    page.wait_for_selector("html[data-engine]")
    page.click("#examples li:nth-child(6) button")
    page.wait_for_selector("#answer:not([hidden])")
    [result] = model.read(read_image(examples[5]).image)
    assert page.locator("#candidates .kanji").first.inner_text() == result.candidates[0][0]


@pytest.mark.parametrize(
    "name, harm, told",
    [
        ("models/reader.onnx.packed", None, "cannot be loaded: models/reader.onnx.packed"),
        ("models/stroke_step.onnx.packed", 0.9, "cut short: models/stroke_step.onnx.packed"),
        ("models/kanji.json", 0.5, "cut short: models/kanji.json"),
        ("runtime/ort-wasm-simd-threaded.wasm", None, "cannot be loaded: runtime/ort-wasm"),
        ("site.json", None, "cannot be loaded: site.json"),
        ("site.json", 0.5, "cannot be loaded: site.json"),
    ],
)
def test_a_missing_or_cut_file_is_named(visit, site, tmp_path, name, harm, told):
    shutil.copytree(site, tmp_path / "site", copy_function=os.link)
    content = (tmp_path / "site" / name).read_bytes()
    (tmp_path / "site" / name).unlink()
    if harm:
        (tmp_path / "site" / name).write_bytes(content[: int(harm * len(content))])
    with Folder(tmp_path / "site") as address:
        path = "/page.html" if harm else "/"
        page = visit(address, path, ready=False, service_workers="block")
        page.wait_for_selector("#problem:not(:empty)")
        assert told in page.inner_text("#problem"), page.inner_text("#problem")


def test_changed_bytes_are_noticed(visit, site, tmp_path):
    shutil.copytree(site, tmp_path / "site", copy_function=os.link)
    path = tmp_path / "site" / "models" / "painter.onnx.packed"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    with Folder(tmp_path / "site") as address:
        page = visit(address, ready=False, service_workers="block")
        page.wait_for_selector("#problem:not(:empty)")
        assert "models/painter.onnx" in page.inner_text("#problem")


def test_old_hands_stand_beside_the_candidates(page, model, examples, until):
    page.click("#examples li:nth-child(4) button")
    until(page, "document.querySelectorAll('#candidates .hands img').length > 0")
    [result] = model.read(read_image(examples[3]).image)
    wanted = {c: hands for (c, _), hands in zip(result.candidates, result.old_hands) if hands}
    found = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('#candidates li')]
            .map((row) => [row.querySelector('.kanji').textContent,
                [...row.querySelectorAll('.hands img')].map((hand) => hand.src)])
            .filter(([, pictures]) => pictures.length))"""
    )
    assert found.keys() == wanted.keys() and len(found) > 5
    for character, pictures in found.items():
        assert len(pictures) == len(wanted[character])
        for url, hand in zip(pictures, wanted[character]):
            with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
                ink = 255 - np.asarray(picture.convert("L")).astype(int)
            assert np.abs(ink - hand.picture).max() <= 1, character
    assert "Painted by the model" in page.inner_text("#hands-about")
    # Of kanji that are asked for, with all that the API says of them.
    asked = page.evaluate(HANDS, [encoded(examples[3]), "国國〇"])
    [read] = model.read(read_image(examples[3]).image, top=1)
    of = model.old_hands.of(["国", "國"], read.z_old)
    assert asked["source"] == "painted" and asked["attribution"] == ""
    assert asked["hands"].keys() == {"国", "國"}
    for mine, theirs in zip(asked["hands"].values(), map(old_hands, of)):
        assert len(mine) == len(theirs)
        for hand, other in zip(mine, theirs):
            assert hand["distance"] == pytest.approx(other["distance"], abs=0.01)
            assert hand | {"picture": "", "distance": 0} == other | {"picture": "", "distance": 0}


@pytest.mark.parametrize(
    "instead, told",
    [
        (("WebAssembly.validate(SIMD)", "false"), "lacks WebAssembly with SIMD"),
        (("typeof OffscreenCanvas", "'undefined'"), "too old to run the models"),
        (
            ("ort.InferenceSession.create(", "(async () => { throw new RangeError('no'); })("),
            "enough memory",
        ),
    ],
)
@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
def test_what_the_browser_lacks_is_said(visit, address, site, instead, told, locale):
    text = (site / "static" / "engine" / "models.js").read_text("utf-8")
    assert instead[0] in text
    text = text.replace(*instead)
    options = {"service_workers": "block", "locale": locale}
    page = visit(address, ready=False, instead=("/models.js", text), **options)
    page.wait_for_selector("#problem:not(:empty)")
    said = page.inner_text("#problem")
    assert told in said if locale == "en-GB" else "ブラウザー" in said
