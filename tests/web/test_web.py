"""The page's files, and `serve` as the command line calls it."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "transfer" / "web" / "static"
SCRIPTS = sorted([*STATIC.glob("*.js"), *STATIC.glob("page/*.js"), *STATIC.glob("engine/*.js")])


def strings(language):
    return dict(
        re.findall(
            r"^  '([a-z-]+)': '(.+)',$",
            (STATIC / "strings" / f"{language}.js").read_text(encoding="utf-8"),
            re.M,
        )
    )


def test_both_languages_say_the_same_things():
    english, japanese = strings("en"), strings("ja")
    assert english.keys() == japanese.keys() and len(english) > 50
    for key, text in english.items():
        names = lambda s: sorted(re.findall(r"\{([a-z-]+)\}", s))
        assert names(text) == names(japanese[key]), key
    # What is nothing but names to fill in and marks between them needs no Japanese.
    words = {key: re.sub(r"\{[a-z-]+\}", "", text) for key, text in japanese.items()}
    foreign = [
        k for k, v in words.items() if re.search(r"\w", v) and not re.search("[ぁ-ヶ一-龠]", v)
    ]
    assert foreign == []
    for language in ("en", "ja"):
        lines = [
            line
            for line in (STATIC / "strings" / f"{language}.js")
            .read_text(encoding="utf-8")
            .splitlines()
            if line.startswith("  ")
        ]
        assert len(lines) == len(strings(language)), "a line that is no string"


def test_every_text_is_used_and_every_text_used_is_there():
    text = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.html"))
    code = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    asked = set(re.findall(r'data-(?:t|t-label|title)="([a-z-]+)"', text)) | set(
        re.findall(r"\b(?:say|tell)\('([a-z-]+)'", code)
    )
    known = strings("en").keys()
    assert asked <= known
    words = asked | set(re.findall(r"'([a-z-]+)'", code))
    words |= {f"{verdict}-text" for verdict in ("sure", "not-sure", "not-a-kanji", "kana")}
    words |= {f"state-{state}" for state in ("reading", "failed")}
    words |= {f"corner-{corner}" for corner in ("nw", "ne", "sw", "se")}
    # What an exported page says in the place of another text.
    words |= {f"{key}-browser" for key in words}
    assert known - words == set()


@pytest.mark.parametrize("script", ["result.js", "page/list.js"])
def test_both_pages_know_every_verdict(script):
    known = re.search(r"^const VERDICTS = \{(.*)\};", (STATIC / script).read_text("utf-8"), re.M)
    assert known
    names = dict(re.findall(r"'([^']+)': '([^']+)'", known[1]))
    assert names == {v: v.replace(" ", "-") for v in ("sure", "not sure", "kana", "not a kanji")}


def test_nothing_comes_from_elsewhere():
    for path in [p for p in STATIC.rglob("*") if p.suffix in (".js", ".css", ".html", ".svg")]:
        text = path.read_text(encoding="utf-8")
        for namespace in ("http://www.w3.org/2000/svg", "http://kanjivg.tagaini.net"):
            text = text.replace(namespace, "")  # names of vocabularies; nothing is asked there
        assert not re.search(r"https?://|[\"']//[a-z]+\.|@import|url\(", text), path.name
        assert path.suffix != ".html" or not re.search(
            r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", text
        )


def test_the_page_has_the_examples_of_the_repository():
    ours = {path.name: path.read_bytes() for path in (STATIC / "examples").glob("*.png")}
    assert (
        ours == {path.name: path.read_bytes() for path in (ROOT / "examples").glob("*.png")}
        and len(ours) == 8
    )


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_is_enough_in_both_schemes():
    schemes = re.findall(
        r":root \{(.*?)\}", (STATIC / "style.css").read_text(encoding="utf-8"), re.S
    )
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", scheme))
        contrast = lambda a, b: (
            (max(la := luminance(colour[a]), lb := luminance(colour[b])) + 0.05)
            / (min(la, lb) + 0.05)
        )
        for text in ("ink", "soft", "red", "good", "doubt"):
            for ground in ("page", "sheet"):
                assert contrast(text, ground) >= 4.5, (text, ground)
        assert contrast("on-red", "red") >= 4.5 and contrast("ink", "wash") >= 4.5
        assert contrast("edge", "sheet") >= 3 and contrast("edge", "page") >= 3


def command(*arguments):
    return [
        sys.executable,
        "-c",
        "import sys; from transfer.web import serve; sys.exit(serve(*eval(sys.argv[1])))",
        repr(arguments),
    ]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def test_bad_places_are_one_line(tmp_path):
    pytest.importorskip("starlette", reason="no starlette here; pip install '.[serve]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, words in [
            (("127.0.0.1", taken.getsockname()[1]), "--port"),
            (("no.such.host.invalid", 0), "--host"),
            (("127.0.0.1", 70000), "--port"),
            (("127.0.0.1", 0, str(tmp_path)), "vae_old"),
            (("127.0.0.1", 0, None, (), 10**6, 3, str(tmp_path / "none")), "no such folder"),
        ]:
            done = subprocess.run(
                command(*arguments), env=environment(), capture_output=True, text=True, timeout=300
            )
            errors = [
                line for line in done.stderr.splitlines() if line and not line.startswith("loading")
            ]
            assert (
                done.returncode == 2
                and len(errors) == 1
                and errors[0].startswith("error: ")
                and words in errors[0]
            ), done.stderr


def test_serve_says_where_it_is_and_stops_by_ctrl_c():
    pytest.importorskip("starlette", reason="no starlette here; pip install '.[serve]'")
    with subprocess.Popen(
        command("127.0.0.1", 0),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", server.stdout.readline())[1])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/api/health")
            assert connection.getresponse().status == 200
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
            assert "Traceback" not in server.stderr.read()
        finally:
            server.kill()
