"""`fusionkit compare`: what it leaves, what it refuses, and what a stop or a failure does to it."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionkit.cli import main
from fusionkit.compare.cells.cell import Ended, run_cell, write_ended
from fusionkit.compare.cells.executor import Executor

ROOT = Path(__file__).parents[2]
SMALL = ["data.subjects=4", "data.records=4", "train.epochs=1", "train.device=cpu", "modalities=eeg,text"]
SMALL += ["data.seconds=1.0", "modalities.eeg.encoder.kind=mlp"]
SMALL.append("data.split={kind: k_fold, by: subject, folds: 2, validation: 0.5}")


class Here(Executor):
    """Trains in this process."""

    broken = ""

    def __init__(self, jobs):
        assert jobs >= 1

    def run(self, cells):
        for cell in cells:
            if cell.strategy == self.broken and cell.fold == 1:
                write_ended(cell, Ended(cell.key, "", "the process died (SIGKILL), 3 times; see log.txt", 0.0))
                yield Ended(cell.key, "", "the process died (SIGKILL), 3 times; see log.txt", 0.0)
                continue
            yield None
            yield run_cell(cell)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr("fusionkit.compare.cells.executor.LocalExecutor", Here)


def words(folder, *more, vary=("fusion.kind=concat,vote",), seeds=2):
    varied = [word for axis in vary for word in ("--vary", axis)]
    return ["compare", "quickstart", f"run.dir={folder}", *SMALL, *varied, "--seeds", str(seeds), *more]


def newest(folder):
    return max((folder / "quickstart-compare").iterdir())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A comparison, what it printed, and where it lies; read only."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch, open(folder / "printed", "w") as printed:
        patch.setattr("fusionkit.compare.cells.executor.LocalExecutor", Here)
        patch.setattr(sys, "stdout", printed)
        assert main(words(folder)) == 0
    return newest(folder), (folder / "printed").read_text()


def test_it_prints_a_table_a_verdict_and_what_it_wrote(done):
    folder, printed = done
    assert "16 cells, 16 to train" in printed and "trainings: 16 of 16 done" in printed
    for strategy in ("concat", "vote", "eeg alone", "text alone", "best single", "majority"):
        assert re.search(rf"{strategy}\s.*0\.\d\d\d", printed)
    assert re.search(r"(is the best of 4|has the best mean of 4)", printed)
    for name in ("results.csv", "results.parquet", "verdict.json", "report.html"):
        assert f"wrote {folder / name}" in printed and (folder / name).is_file()


def test_every_single_result_is_in_the_table(done):
    folder, _ = done
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert len(rows) == 6 * 2 * (4 + 2)  # strategies, seeds, subjects and folds
    verdict = json.loads((folder / "verdict.json").read_text())
    (task,) = verdict["tasks"]
    for line in task["lines"]:
        own = [float(r["score"]) for r in rows if r["strategy"] == line["name"] and r["subject"]]
        assert line["mean"] == pytest.approx(sum(own) / len(own))
    assert verdict["failed"] == [] and len(task["pairs"]) == 6
    assert sum(task["chosen"].values()) == 4


def test_costs_are_of_every_trained_strategy(done):
    folder, _ = done
    costs = {cost["strategy"]: cost for cost in json.loads((folder / "verdict.json").read_text())["costs"]}
    assert set(costs) == {"concat", "vote", "eeg alone", "text alone"}
    assert costs["vote"]["parameters"] == costs["eeg alone"]["parameters"] + costs["text alone"]["parameters"]
    assert costs["vote"]["macs"] == costs["eeg alone"]["macs"] + costs["text alone"]["macs"]
    assert all(cost["latency_ms"] > 0 and cost["step_ms"] > 0 and cost["batch"] == 4 for cost in costs.values())


def test_the_page_is_one_file_with_everything(done):
    text = (done[0] / "report.html").read_text()
    assert not re.search(r"<(script|link|img)|(src|href)=\"[^#]|url\([^#]", text)
    assert text.index("the best") < text.index("differences of all pairs") < text.index("mean ranks")
    for part in ("every subject under every strategy", "score and cost", "all seeds and folds", "multiplications",
                 "Split", "Settings", "fusionkit compare quickstart", "machine and versions"):  # fmt: skip
        assert part in text


def test_resuming_trains_nothing_again_and_says_the_same(done, here, monkeypatch, capsys):
    folder, _ = done
    before = (folder / "results.csv").read_bytes()
    monkeypatch.setattr(Here, "broken", "concat")  # it would fail if it were trained
    assert main(words(folder.parents[1], "--resume", "--no-report", "--json")) == 0
    out, err = capsys.readouterr()
    assert "16 cells, 0 to train" in err
    assert json.loads(out)["tasks"] == json.loads((folder / "verdict.json").read_text())["tasks"]
    assert (folder / "results.csv").read_bytes() == before


def test_what_failed_is_named_everywhere_and_the_exit_code_is_1(tmp_path, here, monkeypatch, capsys):
    given = words(tmp_path, "modalities=text", vary=["train.lr=1e-3,1e-2"], seeds=1)
    monkeypatch.setattr(Here, "broken", "1e-2")
    assert main(given) == 1
    printed = capsys.readouterr().out
    folder = newest(tmp_path)
    assert "failed: 1e-2, fold 1, seed 0: the process died (SIGKILL), 3 times" in printed
    assert "not compared" in printed and "1e-2: no score in 1 of 2 trainings" in printed
    page, verdict = (folder / "report.html").read_text(), json.loads((folder / "verdict.json").read_text())
    assert "1 of 4 trainings failed" in page and "SIGKILL" in page
    assert [(one["strategy"], one["fold"], one["seed"]) for one in verdict["failed"]] == [("1e-2", 1, 0)]
    assert [line["name"] for line in verdict["tasks"][0]["lines"] if line["name"] == "1e-2"] == []
    monkeypatch.setattr(Here, "broken", "")
    assert main([*given, "--resume", "--no-report"]) == 0
    assert "4 cells, 1 to train" in capsys.readouterr().out


def test_where_all_fails_it_says_so(tmp_path, here, monkeypatch, capsys):
    monkeypatch.setattr(Here, "broken", "quickstart")
    one = ["compare", "quickstart", f"run.dir={tmp_path}", *SMALL, "modalities=text", "--seeds", "1"]
    monkeypatch.setattr("fusionkit.compare.cells.cell.Run.open", lambda folder: pytest.fail("nothing is to be read"))
    monkeypatch.setattr(Here, "run", lambda self, cells: (_fail(cell) for cell in cells))
    assert main(one) == 1
    printed = capsys.readouterr().out
    assert printed.count("failed: quickstart, fold") == 2
    assert "2 of 2 trainings failed" in (newest(tmp_path) / "report.html").read_text()


def _fail(cell):
    ended = Ended(cell.key, "", "no memory", 0.0)
    write_ended(cell, ended)
    return ended


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--vary", "fusion.kidn=concat,vote"], r"command line: fusion\.kidn: no such option.*"),
        (["--vary", "fusion.kind=concat,voet"], r"command line: fusion\.kind: .*'voet'.*"),
        (["--vary", "fusion.kind=concat"], r"--vary must be KEY=VALUE,VALUE with two or more different values, .*"),
        (["--seeds", "0"], r"--seeds must be 1 or more, but got 0"),
        (["--jobs", "0"], r"fusionkit compare: invalid value for '--jobs': .*"),
        (["--match", "size"], r"--match must be parameters or step_time, but got 'size'"),
        (["--faults", "noise=1"], r"--faults must stand beside --robustness, but got 'noise=1' alone"),
        (["--robustness", "--faults", "noise=-1"], r"--faults: levels of noise must ascend between 0 and 1e\+06, .*"),
        (["--robustness", "--faults", "absent=0.5"], r"--faults: must be KIND=LEVEL,LEVEL with a kind of .*"),
        (["--rope", "0"], r"--rope must be a number above 0, but got 0"),
        (["--resume"], r"--resume needs an earlier comparison, but .*quickstart-compare has none"),
        (["data.split.folds=9"], r".*9.*"),
        (["train.epoch=3"], r"command line: train\.epoch: no such option; did you mean 'epochs'\?.*"),
    ],
)
def test_a_slip_is_one_line_and_leaves_nothing(more, message, tmp_path, refusal):
    (line,) = refusal("compare", "quickstart", f"run.dir={tmp_path / 'runs'}", *SMALL, *more)
    assert re.fullmatch(message, line)
    assert not list(tmp_path.rglob("comparison.json"))


def test_by_default_it_trains_on_the_processors_that_it_may_use(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    executor = import_module("fusionkit.cli.compare")._executor
    assert (executor("local", None).jobs, executor("local", 2).jobs) == (3, 2)


def test_no_recipe_or_an_unknown_one_is_one_line(refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "must have a recipe" in refusal("compare", "train.epochs=1")[0]
    assert "no recipe named 'quikstart'" in refusal("compare", "quikstart")[0]


def test_other_words_than_those_that_began_it_are_refused(tmp_path, here, refusal):
    begun = ["compare", "quickstart", f"run.dir={tmp_path}", *SMALL, "modalities=text", "--no-report"]
    assert main([*begun, "--seeds", "1"]) == 0
    (line,) = refusal(*begun, "--seeds", "2", "--resume")
    assert re.fullmatch(r"--resume needs the words that began the comparison, but .*comparison\.json has others", line)


def test_recipe_files_are_compared_and_their_names_are_text(tmp_path, here, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, rate in (("<i>one.yaml", "1e-3"), ("two&.yaml", "1e-2")):
        assert main(["copy", "quickstart", name]) == 0
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("lr: 2e-3", f"lr: {rate}"))
    assert main(["compare", "<i>one.yaml", "two&.yaml", *SMALL, "modalities=text", "--seeds", "2"]) == 0
    assert "<i>one.yaml" in capsys.readouterr().out
    page = (newest(tmp_path / "runs") / "report.html").read_text()
    assert "&lt;i&gt;one.yaml" in page and "<i>one" not in page and "two&amp;.yaml" in page


def test_settings_that_differ_in_data_are_judged_apart(tmp_path, here, capsys):
    axes = ["train.lr=1e-3,1e-2", "data.split.folds=2,4"]
    assert main(words(tmp_path, "modalities=text", "--no-report", "--json", vary=axes, seeds=1)) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert [task["setting"] for task in tasks] == ["2", "4"]
    assert [task["pairs"][0]["comparison"]["units"] for task in tasks] == [f"4 subjects in {n} folds" for n in (2, 4)]
    assert {row["setting"] for row in csv.DictReader((newest(tmp_path) / "results.csv").read_text().splitlines())} == {
        "2",
        "4",
    }


@pytest.mark.browser
def test_chromium_shows_the_page_without_a_complaint(done, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "chromium must be installed (Debian: apt-get install chromium)"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--hide-scrollbars",
               "--disable-background-networking", "--disable-component-update", "--disable-quic",
               "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,3000"]  # fmt: skip
    shot, page = tmp_path / "page.png", (done[0] / "report.html").as_uri()
    drawn = subprocess.run(
        [chromium, *options, f"--screenshot={shot}", page], capture_output=True, text=True, check=True
    )
    assert "CONSOLE" not in drawn.stderr
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert (pixels[:, -40:] > 250).mean() > 0.99  # nothing runs out of the page
    assert (pixels < 128).mean() > 0.005


@pytest.mark.slow
def test_ctrl_c_in_the_middle_loses_nothing(tmp_path):
    """The same table, to the byte, as one that nobody stopped."""
    program = [sys.executable, "-m", "fusionkit"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    options = {"env": environment, "cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    running = subprocess.Popen([*program, *words(stopped, "--jobs", "2", "--no-report")], **options)
    while running.poll() is None and len(list(stopped.rglob("cell.json"))) < 5:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert err == "error: stopped on request; the run is saved and goes on with --resume\n"
    kept = {path: path.stat().st_mtime_ns for path in stopped.rglob("cell.json")}
    assert 5 <= len(kept) < 16 and not list(stopped.rglob("results.csv"))
    for folder, more in ((stopped, ["--resume"]), (whole, [])):
        ended = subprocess.run([*program, *words(folder, "--jobs", "2", "--no-report", *more)], check=False, **options)
        assert ended.returncode == 0, ended.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (newest(stopped) / "results.csv").read_bytes() == (newest(whole) / "results.csv").read_bytes()
