"""`kuzushiji-transfer` as a user runs it: in this process with the shipped weights loaded once, and
at the end as a program."""

import copy
import dataclasses
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lxml import etree
from PIL import Image

from transfer import cli, reading_aids
from transfer.commands import draw, train
from transfer.data.formats import convert
from transfer.inference import loading
from transfer.output import formats
from transfer.training import options

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.png"))[:2]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(model, monkeypatch, capsys, tmp_path):
    """Run the command line with the model that is already loaded -> (exit code, standard output,
    standard error)."""
    load = loading.load_model
    monkeypatch.setattr(
        loading, "load_model", lambda folder: model if folder is None else load(folder)
    )
    monkeypatch.setattr(loading, "keep_compiled", lambda: None)
    monkeypatch.chdir(tmp_path)

    def command(*words):
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return SimpleNamespace(code=code, **dict(zip(("out", "err"), capsys.readouterr())))

    return command


def one_line(done) -> str:
    assert done.code == 2, done.err
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.err
    return lines[0]


def broken(folder: Path) -> Path:
    path = folder / "broken.png"
    path.write_bytes(EXAMPLES[0].read_bytes()[:200])
    return path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# draw ---------------------------------------------------------------------------------------------


def test_draw_writes_three_files_an_image_and_a_bad_one_stops_nothing(run, tmp_path):
    done = run(
        "draw",
        *EXAMPLES,
        broken(tmp_path),
        EXAMPLES[0],
        "--out",
        "out",
        "--samples",
        2,
        "--seed",
        3,
        "--top",
        4,
    )
    assert done.code == 2
    assert "broken.png" in one_line(done)
    stems = [p.stem for p in EXAMPLES] + [EXAMPLES[0].stem + "-2"]
    assert files(tmp_path / "out") == {
        f"{stem}.{kind}" for stem in stems for kind in ("svg", "json", "png")
    }
    for stem, line in zip(stems, done.out.splitlines(), strict=True):
        described = json.loads((tmp_path / "out" / f"{stem}.json").read_text("utf-8"))
        assert (
            len(described["candidates"]) == 4
            and len(described["drawings"]) == 2
            and described["seed"] == 3
        )
        strokes = described["drawings"][0]["strokes"]
        paths = etree.parse(tmp_path / "out" / f"{stem}.svg").findall(f".//{SVG}path")
        assert len(paths) == len(strokes) > 0
        with Image.open(tmp_path / "out" / f"{stem}.png") as sheet:
            assert sheet.width > 300 and np.asarray(sheet.convert("L")).min() < 100
        assert f"{stem}.svg" in line and described["candidates"][0]["character"] in line
    first, again = (tmp_path / "out" / f"{stem}.svg" for stem in (stems[0], stems[2]))
    assert first.read_text() == again.read_text(), "the same input twice gives the same drawing"


def test_all_formats_and_their_options(run, tmp_path):
    done = run(
        "draw",
        *EXAMPLES,
        "--format",
        "SVG,pdf,npz,ndjson",
        "--samples",
        2,
        "--animate",
        "--uncertainty",
        "--jobs",
        3,
    )
    assert done.code == 0, done.err
    out = tmp_path / "drawings"
    assert files(out) == {
        f"{p.stem}.{kind}" for p in EXAMPLES for kind in ("svg", "pdf", "npz")
    } | {"drawings.ndjson"}
    svg = (out / f"{EXAMPLES[0].stem}.svg").read_text("utf-8")
    assert "kuzushiji-stroke" in svg and "stroke-opacity" in svg and "kvg:StrokeNumbers_" in svg
    read = convert.read(out / "drawings.ndjson")
    assert [d.key for d in read] == [f"{p.stem}-{n}" for p in EXAMPLES for n in (1, 2)]
    with np.load(out / f"{EXAMPLES[1].stem}.npz", allow_pickle=False) as stored:
        assert stored["drawing_bounds"].shape == (3,) and stored["pixels"].shape == (64, 64)


def test_number_of_threads_changes_nothing(run, tmp_path):
    for jobs in (1, 4):
        assert (
            run("draw", *EXAMPLES, "--out", f"out{jobs}", "--samples", 2, "--jobs", jobs).code == 0
        )
    for name in files(tmp_path / "out1"):
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out4" / name).read_bytes(), (
            name
        )


def test_folder_pattern_and_standard_input(run, tmp_path, monkeypatch):
    scans = tmp_path / "scans" / "deep"
    scans.mkdir(parents=True)
    for path in EXAMPLES:
        shutil.copy(path, scans)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(EXAMPLES[0].read_bytes())))
    done = run("draw", scans, "scans/**/ame*.png", "-", "--samples", 1, "--format", "svg")
    assert done.code == 0, done.err
    names = [p.stem for p in EXAMPLES]
    assert files(tmp_path / "drawings") == {
        f"{names[0]}.svg",
        f"{names[1]}.svg",
        f"{names[0]}-2.svg",
        "stdin.svg",
    }
    assert (tmp_path / "drawings" / "stdin.svg").read_text() == (
        tmp_path / "drawings" / f"{names[0]}.svg"
    ).read_text()
    for name, says in (
        (tmp_path / "drawings", "no pictures"),
        ("scans/*.xyz", "matches no file"),
        ("missing.png", "no such file"),
    ):
        assert says in one_line(run("draw", name))


def test_json_is_one_document_and_nothing_need_be_written(run, tmp_path):
    done = run("draw", EXAMPLES[0], broken(tmp_path), "--json", "--format", "none", "--samples", 2)
    assert done.code == 2 and "broken.png" in one_line(done)
    document = json.loads(done.out)
    [image], [error] = document["images"], document["errors"]
    assert (
        image["image"] == str(EXAMPLES[0]) and image["files"] == [] and len(image["drawings"]) == 2
    )
    assert (
        image["verdict"] in ("sure", "not sure", "not a kanji") and "broken.png" in error["error"]
    )
    assert files(tmp_path) == {"broken.png"}
    done = run("draw", EXAMPLES[0], "--json", "--format", "svg", "--samples", 2)
    assert json.loads(done.out)["images"][0]["files"] == [f"drawings/{EXAMPLES[0].stem}.svg"]


def test_verdicts_and_notes_are_said_plainly(run, model, monkeypatch):
    """Whatever the weights make of an example, each verdict has its words."""
    transfer, verdict = model.transfer, ["sure"]
    monkeypatch.setattr(
        model,
        "transfer",
        lambda *a, **k: [dataclasses.replace(r, verdict=verdict[0]) for r in transfer(*a, **k)],
    )
    said = {}
    for verdict[0] in ("sure", "not sure", "not a kanji"):
        done = run("draw", EXAMPLES[0], "--format", "none", "--samples", 1)
        assert done.code == 0
        said[verdict[0]] = done.out
    assert (
        "not" not in said["sure"]
        and "not sure: " in said["not sure"]
        and "not a kanji" in said["not a kanji"]
    )
    from transfer.inference import batch

    monkeypatch.setattr(
        batch,
        "read",
        lambda source, read=batch.read: dataclasses.replace(read(source), note="took the largest"),
    )
    assert "(took the largest)" in run("draw", EXAMPLES[0], "--format", "none", "--samples", 1).out


def test_quiet_and_verbose(run, tmp_path):
    quiet = run("draw", EXAMPLES[0], broken(tmp_path), "--quiet", "--samples", 1)
    assert quiet.out == "" and "broken.png" in one_line(quiet)
    verbose = run("draw", EXAMPLES[0], "--verbose", "--samples", 1)
    assert "weights" in verbose.err and "1 images" in verbose.err and verbose.code == 0


def test_full_disk_is_one_line_and_leaves_nothing_half_written(run, tmp_path, monkeypatch):
    save, calls = formats.save, []

    def fails(result, path, *rest):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(result, path, *rest)

    monkeypatch.setattr(formats, "save", fails)
    done = run("draw", *EXAMPLES, "--format", "svg,json,ndjson", "--samples", 1, "--jobs", 1)
    assert "No space left" in one_line(done) and "--out" in done.err
    assert "drawings.ndjson" not in files(tmp_path / "drawings") and not any(
        n.startswith(".") for n in files(tmp_path / "drawings")
    )


def test_ctrl_c_gives_130_and_leaves_nothing_half_written(run, model, tmp_path, monkeypatch):
    def transfer(*arguments, **named):
        assert any(name.endswith(".tmp") for name in files(tmp_path)), (
            "drawings.ndjson is being written"
        )
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "transfer", transfer)
    done = run("draw", EXAMPLES[0], "--format", "ndjson")
    assert done.code == 130 and done.err.splitlines()[-1] == "stopped"
    assert files(tmp_path) == set()


def test_bad_arguments_are_one_line(run, tmp_path):
    for words, says in (
        (("--samples", 0), "--samples"),
        (("--samples", "ten"), "--samples"),
        (("--top", 0), "--top"),
        (("--temperature", 0), "--temperature"),
        (("--temperature", "nan"), "--temperature"),
        (("--seed", -1), "--seed"),
        (("--format", "svg,gif"), "gif"),
        (("--jobs", 0), "--jobs"),
        (("--nothing",), "--nothing"),
        (("-", "-"), "standard input"),
        (("--quiet", "--verbose"), "--verbose"),
    ):
        assert says in one_line(run("draw", EXAMPLES[0], *words)), words
    assert "COMMAND" in one_line(run()) and "paint" in one_line(run("paint"))
    assert "vae_old" in one_line(run("draw", EXAMPLES[0], "--weights", tmp_path, "--out", "out"))
    assert files(tmp_path) == set() and not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("")
    assert "--out" in one_line(run("draw", EXAMPLES[0], "--out", "out"))


def test_names_are_all_different():
    names = draw.Names()
    assert [names.new(stem) for stem in ("a", "a", "a-2", "A", "b", "a")] == [
        "a",
        "a-2",
        "a-2-2",
        "A-3",
        "b",
        "a-4",
    ]


# candidates ---------------------------------------------------------------------------------------


def test_candidates_as_a_table_and_as_json(run, tmp_path):
    done = run("candidates", EXAMPLES[0], broken(tmp_path), EXAMPLES[1], "--top", 3, "--json")
    assert done.code == 2 and "broken.png" in one_line(done)
    document = json.loads(done.out)
    assert [image["image"] for image in document["images"]] == [str(p) for p in EXAMPLES] and len(
        document["errors"]
    ) == 1
    table = run("candidates", *EXAMPLES, "--top", 3)
    assert table.code == 0 and table.err == ""
    rows = [
        line.split()
        for line in table.out.splitlines()
        if line.split()[:1] and line.split()[0].isdigit()
    ]
    listed = [c for image in document["images"] for c in image["candidates"]]
    assert len(rows) == len(listed) == 6
    for row, c in zip(rows, listed):
        assert row[1:3] == [c["character"], c["code_point"]] and float(row[3]) == pytest.approx(
            100 * c["probability"], abs=0.06
        )
        aid = reading_aids.aid(c["character"])
        assert (c["strokes"], c["radical"], c["components"]) == (
            aid.strokes,
            aid.radical,
            aid.components,
        )
        assert str(aid.strokes) in row and (not aid.components or aid.components in row)
    assert all(image["verdict"] in table.out for image in document["images"])
    assert files(tmp_path) == {"broken.png"}


def test_candidates_tell_kana_and_the_other_forms(run, model, monkeypatch):
    certain = copy.copy(model)
    certain.kana, certain.kana_params = (
        ["の"],
        {"kernel": np.zeros((64, 1)), "bias": np.ones(1) * 99},
    )
    monkeypatch.setattr(loading, "load_model", lambda folder: certain)
    done = run("candidates", EXAMPLES[0], "--top", 60, "--forms", "old", "--json")
    [described] = json.loads(done.out)["images"]
    assert described["verdict"] == "kana" and described["kana"]["character"] == "の"
    assert described["kana"]["code_point"] == "U+306E" and described["kana"]["probability"] > 0.9
    several = [c for c in described["candidates"] if c["forms"]]
    assert several and all(
        c["forms"][0]["probability"] <= c["probability"]
        and c["forms"][0]["character"] in reading_aids.forms()[c["character"]]
        and reading_aids.forms()[c["character"]][0] != c["character"]
        for c in several
    )
    table = run("candidates", EXAMPLES[0], "--top", 60, "--forms", "old").out
    assert "kana, perhaps の" in table and "other forms" in table
    assert f"  {several[0]['forms'][0]['character']} " in table
    line = run("draw", EXAMPLES[0], "--format", "none", "--samples", 1).out
    assert "kana, perhaps の; as a kanji at best" in line
    assert "as-read, modern, old" in one_line(run("draw", EXAMPLES[0], "--forms", "new")).replace(
        "'", ""
    )


def test_candidates_of_bad_input(run, tmp_path):
    assert "vae_old" in one_line(run("candidates", EXAMPLES[0], "--weights", tmp_path))
    assert "missing" in one_line(run("candidates", "missing.png"))


# train --------------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """What `loop.train` was asked to do; nothing is trained, and tasks hold their name and
    configuration only."""
    from transfer.stages import autoencoders, decoders, density
    from transfer.training import loop

    asked = []
    task = lambda name, config: SimpleNamespace(name=name, config=config)
    monkeypatch.setattr(
        autoencoders, "vae_task", lambda config, corpus, domain: task(f"vae_{domain}", config)
    )
    monkeypatch.setattr(density, "mdn_task", lambda config, corpus, runs, seed: task("mdn", config))
    monkeypatch.setattr(
        decoders, "decoder_task", lambda config, corpus, runs, seed: task("sketch_rnn", config)
    )
    monkeypatch.setattr(
        loop,
        "train",
        lambda task, folder, seed, seconds: asked.append((task, folder, seed, seconds)),
    )
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    return asked


def test_train_runs_every_stage_in_order(run, trained):
    done = run("train", "--seed", 4, "--steps", 7, "--checkpoint-seconds", 3)
    assert done.code == 0, done.err
    assert [str(folder) for _, folder, _, _ in trained] == [
        f"runs/tiny/{n}" for n in ("vae_old", "vae_new", "mdn", "sketch_rnn")
    ]
    for task, folder, seed, seconds in trained:
        assert task.name == folder.name and task.config.steps == 7 and seed == 4 and seconds == 3
    assert "--weights runs/tiny" in done.out and "sample corpus" in done.err


def test_train_keeps_the_presets(run, trained, tmp_path):
    from transfer.models.mdn import MDNConfig
    from transfer.models.sketch_rnn import SketchRNNConfig
    from transfer.models.vae import VAEConfig

    assert run("train", "--preset", "paper", "--runs", "here").code == 0
    configs = [task.config for task, *_ in trained]
    assert configs == [
        VAEConfig.paper("old"),
        VAEConfig.paper("new"),
        MDNConfig.paper(),
        SketchRNNConfig.paper(),
    ]
    assert trained[0][1] == Path("here/vae_old")
    trained.clear()
    assert run("train", "--preset", "small").code == 0
    assert [task.name for task, *_ in trained] == ["vae_old", "vae_new", "mdn", "sketch_rnn"]
    assert train.PRESETS == ("auto", *options.PRESETS)


def test_train_stops_at_the_stage_that_was_interrupted_or_failed(run, trained, monkeypatch):
    from transfer.training import errors, loop

    def raises(error):
        def train(task, *rest):
            if task.name == "vae_new":
                raise error
            trained.append(task.name)

        return train

    monkeypatch.setattr(
        loop, "train", raises(errors.Interrupted("vae_new: stopped at step 3, saved"))
    )
    done = run("train")
    assert done.code == 130 and "stopped at step 3" in done.err and trained == ["vae_old"]
    monkeypatch.setattr(
        loop, "train", raises(errors.TrainingError("runs/tiny/vae_new: cannot write"))
    )
    assert "error: runs/tiny/vae_new: cannot write" in run("train").err
    assert "no such folder" in one_line(run("train", "--data", "missing"))


# the others ---------------------------------------------------------------------------------------


def test_info_tells_where_the_weights_come_from(run, tmp_path):
    from transfer.inference.pipeline import PRETRAINED
    from transfer.training import weights

    document = json.loads(run("info", "--json").out)
    assert document["weights"]["shipped"] is True and document["weights"]["gallery"] > 5000
    for name, model in document["weights"]["models"].items():
        assert (
            model["sha256"] == weights.checksum(PRETRAINED / f"{name}.safetensors")
            and model["config"]["steps"] > 0
        )
    text = run("info").out
    for said in (
        "KanjiVG",
        "KMNIST",
        document["version"],
        document["jax"],
        document["weights"]["models"]["mdn"]["sha256"][:12],
    ):
        assert said in text
    assert "vae_old" in one_line(run("info", "--weights", tmp_path))


def test_info_of_a_runs_folder_tells_minutes_and_what_was_measured(run, tmp_path):
    """Of a run that was started twice, by a version that counted every start's seconds from 0."""
    from transfer.inference.pipeline import PRETRAINED

    for name in ("vae_old", "vae_new", "mdn", "sketch_rnn"):
        folder = tmp_path / name / "weights"
        folder.mkdir(parents=True)
        (folder / f"{name}.safetensors").symlink_to(PRETRAINED / f"{name}.safetensors")
    lines = [
        {"step": 5, "loss": 3.0, "seconds": 60},
        {"step": 5, "val/top1": 0.25, "seconds": 90},
        {"step": 9, "loss": 2.0, "seconds": 30},
        {"step": 10, "val/top1": 0.5, "val/wrong_z": 2.0, "seconds": 36},
    ]
    (tmp_path / "mdn" / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1'
    )
    model = json.loads(run("info", "--json", "--weights", tmp_path).out)["weights"]["models"]
    assert model["mdn"]["minutes"] == 2.1 and model["mdn"]["held_out"] == {
        "top1": 0.5,
        "wrong_z": 2.0,
    }
    assert "minutes" not in model["vae_old"]
    assert (
        "2.1 minutes; on held-out data: top1 0.5, wrong z 2"
        in run("info", "--weights", tmp_path).out
    )


def test_evaluate_says_what_is_wrong_in_one_line(run, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    assert "--limit" in one_line(run("evaluate", "--limit", 0))
    assert "no such folder" in one_line(
        run("evaluate", "--data", tmp_path / "none", "--out", "out")
    )


def test_serve_passes_on_its_arguments_and_names_the_extra(run, monkeypatch):
    from transfer import web

    asked = []
    monkeypatch.setattr(web, "serve", lambda *given, data: asked.append((*given, data)) or 0)
    assert (
        run("serve").code == 0
        and run("serve", "--host", "0.0.0.0", "--port", 9, "--weights", "runs/x").code == 0
    )
    assert run("serve", "--name", "a.example", "--name", "b.example").code == 0
    assert run("serve", "--data", "books").code == 0
    assert asked == [
        ("127.0.0.1", 8000, None, (), None),
        ("0.0.0.0", 9, Path("runs/x"), (), None),
        ("127.0.0.1", 8000, None, ("a.example", "b.example"), None),
        ("127.0.0.1", 8000, None, (), Path("books")),
    ]
    assert "--port" in one_line(run("serve", "--port", 99999))
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "serve]" in one_line(run("serve"))


def test_every_command_has_help_with_examples(run):
    for name in [command.__name__.rpartition(".")[2] for command in cli.COMMANDS]:
        done = run(name, "--help")
        assert done.code == 0 and f"examples:\n  kuzushiji-transfer {name}" in done.out, name
        for line in done.out.partition("examples:\n")[2].splitlines():
            words = line.partition("#")[0].partition("| ")
            words = (
                (words[2] or words[0]).partition("<")[0].partition(">")[0].replace("'", "").split()
            )
            if words:
                cli.parser().parse_args(words[1:])  # what the examples show can be typed
    assert all(
        name in run("--help").out
        for name in (
            "draw",
            "candidates",
            "train",
            "evaluate",
            "export",
            "info",
            "serve",
            "completion",
        )
    )
    assert run("--version").out.startswith("kuzushiji-transfer ")


def test_bash_completes_commands_and_options(run, tmp_path):
    bash = shutil.which("bash") or pytest.skip("no bash here")
    (tmp_path / "completion").write_text(run("completion", "bash").out)

    def complete(*words):
        line = " ".join(words)
        script = (
            f"source ./completion; COMP_WORDS=({' '.join(repr(w) for w in words)});"
            f" COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}; $(complete"
            " -p ${COMP_WORDS[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(
            [bash, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=30
        )
        return done.stdout.split()

    assert complete("kuzushiji-transfer", "ca") == ["candidates"]
    assert "--temperature" in complete("kuzushiji-transfer", "draw", "--te")
    assert {"paper", "tiny"} <= set(complete("kuzushiji-transfer", "train", "--preset", ""))
    assert "zsh" in complete("kuzushiji-transfer", "completion", "")
    assert "#compdef" in run("completion", "zsh").out


# As a program -------------------------------------------------------------------------------------


def program(*words, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "transfer", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, timeout=300, **options)


def test_the_program_draws_what_comes_in_by_a_pipe(tmp_path):
    done = program(
        "draw",
        "-",
        "--json",
        "--samples",
        1,
        "--format",
        "svg",
        cwd=tmp_path,
        input=EXAMPLES[0].read_bytes(),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"][0]["image"] == "stdin" and files(tmp_path) == {
        "drawings/stdin.svg"
    }


def test_help_and_errors_do_not_wait_for_jax(tmp_path):
    code = (
        "import sys\nfrom transfer.cli import main\ncode = main(['draw', '--samples', '0', 'x']);"
        " sys.exit(9 * ('jax' in sys.modules) or code)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 2, done.stderr


@pytest.mark.slow
def test_train_is_what_the_stage_scripts_are_and_survives_ctrl_c(tmp_path):
    """Stopped in its second stage and started again, the weights are bitwise those of the three
    scripts run one after another."""
    import signal
    import time

    from safetensors.numpy import load_file

    environment = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"} | {
        "PYTHONPATH": str(ROOT)
    }
    command = [
        sys.executable,
        "-m",
        "transfer",
        "train",
        "--steps",
        "12",
        "--runs",
        str(tmp_path / "whole"),
        "--checkpoint-seconds",
        "0",
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline, log = time.monotonic() + 900, tmp_path / "whole" / "vae_new" / "checkpoints"
    while time.monotonic() < deadline and not [
        p for p in log.glob("*") if p.name.isdigit() and int(p.name) >= 3
    ]:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 130 and "vae_new: stopped" in said, said
    assert not (tmp_path / "whole" / "mdn").exists()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)
    assert again.returncode == 0, again.stderr
    for script in ("stage1_vae.py", "stage2_mdn.py", "stage3_sketch_rnn.py"):
        done = subprocess.run(
            [
                sys.executable,
                ROOT / "experiments" / script,
                "--steps",
                "12",
                "--runs",
                tmp_path / "parts",
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, done.stderr
    for stage in ("vae_old", "vae_new", "mdn", "sketch_rnn"):
        one, other = (
            load_file(tmp_path / runs / stage / "weights" / f"{stage}.safetensors")
            for runs in ("whole", "parts")
        )
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name], err_msg=f"{stage} {name}")


# Names --------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is text")
def test_names_that_are_no_text_are_written_and_shown_with_escapes(run, tmp_path):
    """Bytes of Shift_JIS, as an old archive unpacks to."""
    name, out = os.fsdecode(b"\x8e\x52"), os.fsdecode(b"out\x8e")
    for path in (tmp_path / f"{name}.png", tmp_path / "good.png"):
        shutil.copy(EXAMPLES[0], path)
    done = run(
        "draw",
        f"{name}.png",
        "good.png",
        "--format",
        "svg,json,png,pdf,npz,ndjson",
        "--out",
        out,
        "--samples",
        1,
    )
    assert done.code == 0 and done.err == "", done.err
    kinds = ("svg", "json", "png", "pdf", "npz")
    assert files(tmp_path / out) == {
        f"{stem}.{kind}" for stem in (name, "good") for kind in kinds
    } | {"drawings.ndjson"}
    assert (
        json.loads((tmp_path / out / f"{name}.json").read_text("utf-8"))["image"] == f"{name}.png"
    )
    assert [d.key for d in convert.read(tmp_path / out / "drawings.ndjson")] == [
        f"{name}-1",
        "good-1",
    ]
    assert "\\udc8eR.png -> out\\udc8e/\\udc8eR.svg" in done.out
    document = json.loads(
        run("draw", f"{name}.png", "--json", "--format", "svg", "--samples", 1).out
    )
    assert document["images"][0]["image"] == f"{name}.png"
    assert "\\udc8eR.png: " in run("candidates", f"{name}.png", "--top", 1).out
    assert "\\udc8e" in one_line(run("draw", f"{name}.jpg")) and "\\udc8e" in one_line(
        run("draw", "good.png", "--weights", name)
    )


def test_names_of_japanese_and_beyond_the_bmp(run, tmp_path):
    """A folder as on a Japanese Windows. No name that is written has a colon, which means something
    else there."""
    home = tmp_path / "Users" / "山田 太郎" / "くずし字"
    home.mkdir(parents=True)
    for name in ("山 川.png", "\U00020b9f.png", "é.png"):
        shutil.copy(EXAMPLES[0], home / name)
    assert (
        run(
            "draw",
            home,
            "--out",
            home / "結果",
            "--format",
            "svg,json,png,pdf,npz,ndjson",
            "--samples",
            1,
        ).code
        == 0
    )
    written = files(home / "結果")
    assert len(written) == 16 and {"山 川.svg", "\U00020b9f.json", "é.pdf"} <= written
    assert not [name for name in written if set(name) & set('<>:"|?*')]
