"""Downloads from a real HTTP server on this machine that misbehaves in every way that hosts do."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from transfer.data.__main__ import main
from transfer.data.published import catalogue, download
from transfer.data.published.catalogue import Published
from transfer.system.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
BODY = np.random.default_rng(0).bytes(200_000)
MD5 = "md5:" + hashlib.md5(BODY).hexdigest()
CSV = "index,codepoint,char\n0,U+304A,お\n".encode()
HALF = 120_000


class Handler(BaseHTTPRequestHandler):
    """The first part of the path says how to behave; the server's `count` how often each was
    asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, how = self.server, self.path.split("/")[1]
        server.asked.append((how, self.headers.get("Range")))
        first = sum(h == how for h, _ in server.asked) == 1
        body = server.body
        start = (
            int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if self.headers.get("Range")
            else 0
        )
        if self.headers.get("If-Range", server.tag) != server.tag:
            start = 0
        if how in ("404", "503", "403") or how == "503once" and first:
            return self.answer(int(how[:3]), b"<html>no</html>")
        if how == "page":
            return self.answer(200, b"<html>please log in</html>")
        if how == "login":
            return self.answer(
                200, b"<html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"}
            )
        if how == "wrong":
            body = bytes(len(body))
        if how == "short":
            body = body[:-1]
        if how == "ignores":
            start = 0
        if how == "otherpart" and start:
            return self.answer(
                206, body[7:], {"Content-Range": f"bytes 7-{len(body) - 1}/{len(body)}"}
            )
        if start >= len(body):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        part = body[start:]
        headers = {"ETag": server.tag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        stop = None
        if how == "cut" or how == "cutonce" and first or how == "ignores" and first:
            stop = min(HALF if not start else 3, len(part) - 1)
        if how == "stall" or how == "stallonce" and first:
            stop = min(HALF, len(part) - 1) if not start else 0
        self.answer(206 if start else 200, part, headers, stop, drip=how == "drip")
        if "stall" in how and stop is not None:
            self.wfile.flush()
            server.over.wait(20)

    def answer(self, status, content, headers=(), stop=None, drip=False):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            if drip:
                for i in range(200):
                    self.wfile.write(content[i : i + 1])
                    self.wfile.flush()
                    if self.server.over.wait(0.02):
                        break
            else:
                self.wfile.write(content[:stop])
        except OSError:  # the client left
            pass
        if stop is not None or drip:
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # a client that leaves is what is tested
        server.asked, server.body, server.tag, server.over = [], BODY, '"v1"', threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def published(server, *ways, name="file.npz", known=MD5, **more):
    return Published(
        "kkanji", "tar", name, tuple(f"{server.url}/{w}/{name}" for w in ways), known, **more
    )


def fetch(file, folder, **more):
    return download.fetch(file, folder, progress=False, **{"timeout": 0.5, "pause": 0.01} | more)


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("known", [MD5, "sha256:" + hashlib.sha256(BODY).hexdigest()])
def test_a_good_server_gives_the_file_and_nothing_else_stays(server, tmp_path, known):
    path = fetch(published(server, "good", known=known), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "file.npz" and path.read_bytes() == BODY
    assert left(path.parent) == ["file.npz"]
    assert (
        fetch(published(server, "good", known=known), path.parent) == path
    )  # there already: nothing is asked for
    assert server.asked == [("good", None)]


@pytest.mark.parametrize("way", ["cutonce", "stallonce"])
def test_a_broken_download_goes_on_where_it_broke(server, tmp_path, way):
    path = fetch(published(server, way), tmp_path)
    assert path.read_bytes() == BODY and left(tmp_path) == ["file.npz"]
    assert server.asked == [(way, None), (way, f"bytes={HALF}-")]


def test_a_server_that_ignores_range_starts_anew(server, tmp_path):
    path = fetch(published(server, "ignores"), tmp_path)
    assert path.read_bytes() == BODY and len(server.asked) == 2 and server.asked[1][1]


def test_another_part_than_asked_for_is_not_appended(server, tmp_path):
    (tmp_path / "file.npz.part").write_bytes(BODY[:1000])
    assert fetch(published(server, "otherpart"), tmp_path).read_bytes() == BODY
    assert [r for _, r in server.asked] == ["bytes=1000-", None]


@pytest.mark.parametrize(
    "way", ["404", "403", "503", "cut", "stall", "drip", "wrong", "page", "short"]
)
def test_the_next_address_is_tried_and_a_bad_one_left_soon(server, tmp_path, way):
    start, said = time.monotonic(), []
    path = fetch(published(server, way, "good"), tmp_path, say=said.append)
    assert path.read_bytes() == BODY and left(tmp_path) == ["file.npz"]
    assert time.monotonic() - start < 8 and len(said) == 1 and f"/{way}/file.npz: " in said[0]
    assert len([h for h, _ in server.asked if h == way]) <= download.TRIES + 1


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("404", "answers status 404"),
        ("503", "answers status 503"),
        ("stall", "stalls after 120,000 bytes"),
        ("drip", "stalls"),
        ("cut", r"broke off after 120,\d{3} bytes"),
        ("wrong", "checksum"),
        ("page", "checksum"),
    ],
)
def test_no_address_left_is_one_clear_line_and_no_file(server, tmp_path, way, words):
    with pytest.raises(DataError, match=words) as error:
        fetch(published(server, way), tmp_path)
    message = str(error.value)
    assert message.startswith("file.npz: ") and server.url in message and "--from PATH" in message
    assert "\n" not in message
    assert not (tmp_path / "file.npz").exists()
    # what can be gone on with stays, what is known to be wrong does not
    assert left(tmp_path) == (
        ["file.npz.part", "file.npz.part.json"] if way in ("cut", "stall", "drip") else []
    )


def test_nobody_listening_and_bad_addresses(tmp_path):
    for url in (
        "http://127.0.0.1:9/file.npz",
        "gopher://x/file.npz",
        "http://",
        "http://[::1/file.npz",
    ):
        with pytest.raises(DataError, match="no address delivered it"):
            fetch(Published("kkanji", "", "file.npz", (url,), MD5), tmp_path)
        assert left(tmp_path) == []


def test_503_is_tried_again(server, tmp_path):
    assert fetch(published(server, "503once"), tmp_path).read_bytes() == BODY
    assert len(server.asked) == 2


def test_mirrors_come_first_and_may_be_folders_or_files(server, tmp_path):
    file = published(server, "good")
    assert download.addresses(file, ["http://a/b/", "http://c/file.npz"]) == [
        "http://a/b/file.npz",
        "http://c/file.npz",
        f"{server.url}/good/file.npz",
    ]
    fetch(file, tmp_path, mirrors=[f"{server.url}/404", f"{server.url}/503once"])
    assert [h for h, _ in server.asked] == ["404", "503once", "503once"]


def test_a_part_goes_on_at_another_mirror_where_a_checksum_tells(server, tmp_path):
    with pytest.raises(DataError):
        fetch(published(server, "stall"), tmp_path)
    assert (tmp_path / "file.npz.part").stat().st_size == HALF
    server.asked.clear()
    assert fetch(published(server, "good"), tmp_path).read_bytes() == BODY
    assert server.asked == [("good", f"bytes={HALF}-")]


def test_a_login_page_does_not_cost_the_part(server, tmp_path):
    (tmp_path / "file.npz.part").write_bytes(BODY[:5000])
    with pytest.raises(DataError, match="sends a web page"):
        fetch(published(server, "login"), tmp_path)
    assert (tmp_path / "file.npz.part").read_bytes() == BODY[:5000]


def test_a_wrong_part_is_dropped_and_all_of_it_asked_for(server, tmp_path):
    (tmp_path / "file.npz.part").write_bytes(bytes(5000))
    assert fetch(published(server, "good"), tmp_path).read_bytes() == BODY
    assert server.asked == [("good", "bytes=5000-"), ("good", None)]


def test_a_part_that_is_whole_or_too_long(server, tmp_path):
    for part in (BODY, BODY + b"more"):
        (tmp_path / "file.npz.part").write_bytes(part)
        path = fetch(published(server, "good"), tmp_path)
        assert path.read_bytes() == BODY
        path.unlink()


def tar_body(blocks=300) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("kkanji2/U+4E00/a.png")
        info.size = 512 * blocks
        archive.addfile(info, io.BytesIO(np.random.default_rng(1).bytes(info.size)))
    return buffer.getvalue()


def test_a_dead_mirror_does_not_cost_what_another_address_gave(server, tmp_path):
    server.body = tar_body()
    file = published(server, "stallonce", name="kkanji.tar", known=None)
    part = tmp_path / "kkanji.tar.part"
    with pytest.raises(DataError):
        fetch(published(server, "stall", name="kkanji.tar", known=None), tmp_path)
    note = tmp_path / "kkanji.tar.part.json"
    note.write_text(note.read_text().replace("/stall/", "/stallonce/"))
    server.asked[:] = [("stallonce", None)]  # it behaves from now on
    assert (
        fetch(file, tmp_path, mirrors=[f"{server.url}/503", f"{server.url}/404"]).read_bytes()
        == server.body
    )
    assert server.asked[-1] == ("stallonce", f"bytes={HALF}-") and not part.exists()


def test_without_a_checksum_the_version_must_be_the_same(server, tmp_path):
    server.body = tar_body()
    file = published(server, "stall", name="kkanji.tar", known=None)
    with pytest.raises(DataError):
        fetch(file, tmp_path)
    good = Published(
        "kkanji", "tar", "kkanji.tar", (file.urls[0].replace("stall", "stallonce"),), None
    )
    server.asked.clear()
    server.asked.append(("stallonce", None))
    assert fetch(good, tmp_path).read_bytes() == server.body
    assert server.asked[1:] == [("stallonce", None)]  # another address: anew
    (tmp_path / "kkanji.tar").unlink()

    with pytest.raises(DataError):
        fetch(file, tmp_path)
    server.body, server.tag = tar_body(400), '"v2"'  # published anew meanwhile
    server.asked.clear()
    with pytest.raises(DataError):
        fetch(file, tmp_path)
    assert server.asked[0][1] == f"bytes={HALF}-"
    assert (tmp_path / "kkanji.tar.part").read_bytes() == server.body[:HALF]


@pytest.mark.parametrize(
    "name",
    ["kkanji.tar", "kanjivg-20260714-all.zip", "kanjivg-20260714.xml.gz", "k49_classmap.csv"],
)
@pytest.mark.parametrize("way", ["page", "good"])
def test_without_a_checksum_an_error_page_is_not_taken_for_the_file(server, tmp_path, name, way):
    with pytest.raises(DataError, match="what came is another file"):
        fetch(published(server, way, name=name, known=None), tmp_path)
    assert left(tmp_path) == []


def test_a_wrong_length_is_refused_before_it_is_downloaded(server, tmp_path):
    with pytest.raises(DataError, match="announces 200,000 bytes, not the published file's 7"):
        fetch(published(server, "good", size=7, exact=True), tmp_path)
    with pytest.raises(DataError, match="more than any published file"):
        download.LARGEST, before = 1000, download.LARGEST
        try:
            fetch(published(server, "good"), tmp_path)
        finally:
            download.LARGEST = before
    assert left(tmp_path) == []


def test_a_damaged_file_in_the_folder_is_replaced_only_by_a_good_one(server, tmp_path):
    (tmp_path / "file.npz").write_bytes(b"old")
    with pytest.raises(DataError):
        fetch(published(server, "wrong"), tmp_path)
    assert (tmp_path / "file.npz").read_bytes() == b"old"
    assert fetch(published(server, "good"), tmp_path).read_bytes() == BODY


def test_two_at_once_do_not_mix(server, tmp_path):
    pytest.importorskip("fcntl")
    with (
        download._alone(tmp_path / "file.npz"),
        pytest.raises(DataError, match="another download of it is running"),
    ):
        fetch(published(server, "good"), tmp_path)
    fetch(published(server, "good"), tmp_path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_read_only_folder(server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"):
        fetch(published(server, "good"), tmp_path / "d")


def test_a_folder_that_is_a_file(server, tmp_path):
    (tmp_path / "d").touch()
    for call in (
        lambda: fetch(published(server, "good"), tmp_path / "d"),
        lambda: download.take(published(server, known=MD5), good_copy(tmp_path), tmp_path / "d"),
    ):
        with pytest.raises(DataError, match="cannot be written"):
            call()


def good_copy(folder: Path) -> Path:
    (folder / "mine").mkdir(exist_ok=True)
    path = folder / "mine" / "file.npz"
    path.write_bytes(BODY)
    return path


def test_the_user_s_own_file_is_checked_and_copied(server, tmp_path):
    mine = good_copy(tmp_path)
    file = published(server)
    path = download.take(file, mine, tmp_path / "d")
    assert path.read_bytes() == BODY and mine.is_file() and left(tmp_path / "d") == ["file.npz"]
    assert download.take(file, path, tmp_path / "d") == path
    mine.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="is not the published file.npz: its md5"):
        download.take(file, mine, tmp_path / "d")
    assert path.read_bytes() == BODY and left(tmp_path / "d") == ["file.npz"]


def command(*arguments, cache, **more):
    environment = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"} | {
        "XDG_CACHE_HOME": str(cache)
    }
    return subprocess.Popen(
        [sys.executable, "-m", "transfer.data", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        **more,
    )


def test_the_command_downloads_from_a_mirror(server, tmp_path, capsys):
    server.body = CSV
    assert (
        main(
            [
                "download",
                "kmnist_classmap.csv",
                "--data",
                str(tmp_path),
                "--mirror",
                server.url + "/good",
            ]
        )
        == 0
    )
    assert (tmp_path / "kmnist" / "kmnist_classmap.csv").read_bytes() == CSV
    assert main(["list", "--data", str(tmp_path)]) == 0
    here = [line for line in capsys.readouterr().out.splitlines() if line.endswith("here")]
    assert len(here) == 1 and "kmnist_classmap.csv" in here[0]


def test_the_command_takes_files_from_a_folder_or_a_file(tmp_path, capsys):
    (tmp_path / "k49_classmap.csv").write_bytes(CSV)
    assert main(["download", "k49", "--data", str(tmp_path / "d"), "--from", str(tmp_path)]) == 0
    assert "k49-train-imgs.npz" in capsys.readouterr().err  # what is not there is named
    assert left(tmp_path / "d" / "k49") == ["k49_classmap.csv"]
    (tmp_path / "kkanji (1).tar").write_bytes(tar_body())
    assert (
        main(
            [
                "download",
                "kkanji",
                "--data",
                str(tmp_path / "d"),
                "--from",
                str(tmp_path / "kkanji (1).tar"),
            ]
        )
        == 0
    )
    assert (tmp_path / "d" / "kkanji.tar").is_file()
    for source in (tmp_path / "none", tmp_path / "d" / "k49"):
        assert (
            main(["download", "kkanji", "--data", str(tmp_path / "d"), "--from", str(source)]) == 2
        )
    (tmp_path / "kkanji.tar").write_bytes(tar_body()[:5000])
    assert main(["download", "kkanji", "--data", str(tmp_path / "e"), "--from", str(tmp_path)]) == 2
    assert (
        all(e.startswith("error: ") for e in capsys.readouterr().err.splitlines())
        and not (tmp_path / "e").exists()
    )


@pytest.mark.parametrize(
    "arguments", [[], ["k50"], ["kkanji", "--format", "npz"], ["kanjivg", "--release", "2026"]]
)
def test_wrong_arguments_are_one_line_and_exit_2(tmp_path, arguments):
    done = command("download", *arguments, "--data", tmp_path, cache=tmp_path)
    out, err = done.communicate(timeout=60)
    assert (
        done.returncode == 2
        and out == ""
        and len(err.splitlines()) == 1
        and err.startswith("error: ")
    )


def test_without_a_name_it_asks(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    from transfer.data import __main__ as program

    answers = iter(["x", "9", "1", "2"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    assert [f.name for f in program._ask(catalogue.RELEASE)] == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
        "kmnist_classmap.csv",
    ]
    answers = iter(["3"])
    assert [f.name for f in program._ask(catalogue.RELEASE)] == ["kkanji.tar"]
    assert "3) Kuzushiji-Kanji" in capsys.readouterr().out


def test_names_choose_files():
    names = [f.name for f in catalogue.choose(["all"])]
    assert (
        "kkanji.tar" in names
        and f"kanjivg-{catalogue.RELEASE}-all.zip" in names
        and "k49-test-imgs.npz" in names
    )
    assert "t10k-labels-idx1-ubyte.gz" not in names
    assert len(catalogue.choose(["kmnist"], "all-formats")) == 9
    [main_zip] = catalogue.choose(["kanjivg"], "main", "20250816")
    releases = "https://github.com/KanjiVG/kanjivg/releases/download"
    assert main_zip.urls == (f"{releases}/r20250816/kanjivg-20250816-main.zip",)
    assert main_zip.hash.startswith("sha256:69a2944e")
    assert len({f.name for f in catalogue.files()}) == len(catalogue.files()) == 18


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_ctrl_c_leaves_a_part_that_the_next_call_goes_on_with(server, tmp_path):
    server.body = tar_body()
    arguments = (
        "download",
        "kkanji",
        "--data",
        tmp_path,
        "--mirror",
        server.url + "/stallonce",
        "--timeout",
        "60",
    )
    process = command(*arguments, cache=tmp_path / "cache")
    part = tmp_path / "kkanji.tar.part"
    deadline = time.monotonic() + 60
    while (
        not (part.is_file() and part.stat().st_size >= HALF - 8192) and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "to continue" in err
    assert part.stat().st_size == HALF and not (tmp_path / "kkanji.tar").exists()
    assert main(list(map(str, arguments))) == 0
    assert server.asked[-1] == ("stallonce", f"bytes={HALF}-")
    assert (tmp_path / "kkanji.tar").read_bytes() == server.body and left(tmp_path) == [
        "kkanji.tar"
    ]


@pytest.mark.skipif(os.name == "nt", reason="needs setrlimit")
@pytest.mark.parametrize("way", ["mirror", "from"])
def test_a_full_disk_is_one_line(server, tmp_path, way):
    """No file may grow over 50 kB: to the program the same as a disk that has no more room."""
    import resource

    server.body = tar_body()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kkanji.tar").write_bytes(server.body)
    more = ("--mirror", server.url + "/good") if way == "mirror" else ("--from", tmp_path / "mine")
    process = command(
        "download",
        "kkanji",
        "--data",
        tmp_path / "d",
        "--quiet",
        *more,
        cache=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == "" and len(err.splitlines()) == 1
    assert "kkanji.tar: cannot be written" in err and "free space" in err
    assert not (tmp_path / "d" / "kkanji.tar").exists()
    assert not [n for n in left(tmp_path / "d") if not n.endswith((".part", ".part.json"))]
