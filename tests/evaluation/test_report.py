"""The report: one file, no network, right numbers; and what a real browser makes of it."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fusionkit.evaluation.report import build_report, write_report
from fusionkit.evaluation.summary import summarise


@pytest.fixture(scope="module")
def page(tiny_run):
    return build_report(tiny_run, summarise(tiny_run))


class Loads(HTMLParser):
    """Whatever an HTML page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action") and value and not value.startswith(("#", "data:")):
                self.found.append((tag, value))
        if tag in ("script", "link", "iframe", "object"):
            self.found.append((tag, ""))


def test_it_is_one_file_that_loads_nothing(page):
    loads = Loads()
    loads.feed(page)
    assert not loads.found
    assert not re.search(r"@import|url\((?!#)", page)


def test_it_says_the_scores_of_the_summary(page, tiny_run):
    for name, task in summarise(tiny_run).tasks.items():
        score = task.rows[0].scores[task.primary]
        assert f"{name}: accuracy {score.value:.3f}" in page
        assert f"{score.low:.3f} to {score.high:.3f}" in page


@pytest.mark.parametrize(
    "part", ["transductive", "Fusion", "Training", "Sensors", "Split", "kind: rcft", "fused without eeg", "onnxruntime"]
)
def test_it_has_every_part(page, part):
    assert part in page


def test_names_of_the_user_are_escaped(tiny_run):
    summary = summarise(tiny_run)
    object.__setattr__(summary, "name", "<script>alert(1)</script>")
    assert "<script>" not in build_report(tiny_run, summary)


@pytest.mark.browser
def test_chromium_shows_it_without_a_complaint(tiny_run, tmp_path):
    path = write_report(tiny_run, summarise(tiny_run))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "chromium must be installed (Debian: apt-get install chromium)"
    common = [
        *(
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-sync",
            "--hide-scrollbars",
        ),
        *("--disable-background-networking", "--disable-component-update", "--disable-quic", "--enable-logging=stderr"),
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    shot = tmp_path / "report.png"
    drawn = subprocess.run(
        [*common, "--window-size=1100,2600", f"--screenshot={shot}", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in drawn.stderr
    dom = subprocess.run(
        [*common, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert dom.stdout.count("<svg") >= 6 and dom.stdout.count("<table") >= 5
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.shape == (2600, 1100)
    assert (pixels[:600] < 128).mean() > 0.005, "the first screen must not be empty"
    assert (pixels[1200:] < 250).any(1).mean() > 0.3, "nor the rest"
