"""Ten thousand mutated bundles: none ends the process, reads another file, or is answered with anything but numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusionkit.runtime import Session
from tests.runtime import fuzzing, little

SCRIPT = Path(__file__).with_name("fuzzing.py")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("little") / "little.fusion"
    path.write_bytes(little.pack(little.manifest(), little.files()))
    return path


def attack(bundle, scratch, first, last):
    """Run mutations in their own process, which may not take the machine's memory; what it counted."""
    ended = subprocess.run(
        [sys.executable, SCRIPT, bundle, scratch, str(first), str(last)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=SCRIPT.parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def shares(counts):
    """How many were refused and answered."""
    return tuple(sum(n for name, n in counts.items() if name.endswith(end)) for end in ("refused", "answered"))


def test_three_hundred_mutations_are_refused_or_answered(small, tmp_path):
    counts = attack(small, tmp_path, 0, 300)
    refused, answered = shares(counts)
    assert counts["failed"] == 0 and refused + answered == 300
    assert refused > 200 and answered > 3  # neither all the same nor all harmless
    assert counts["peak_mb"] < 1000


@pytest.mark.slow
def test_ten_thousand_mutations_are_refused_or_answered(small, tmp_path):
    counts = attack(small, tmp_path, 300, 9700)
    assert counts["failed"] == 0 and sum(shares(counts)) == 9400
    assert {name.rsplit(" ", 1)[0] for name in counts if " " in name} == set(fuzzing.KINDS)
    assert counts["peak_mb"] < 1000


@pytest.mark.slow
def test_six_hundred_mutations_of_an_exported_bundle_are_refused_or_answered(tiny_run, tmp_path):
    counts = attack(tiny_run.folder / "model.fusion", tmp_path, 9700, 10300)
    assert counts["failed"] == 0 and sum(shares(counts)) == 600


def test_what_the_bundle_holds_before_it_is_mutated_is_answered(small):
    assert Session.load(small).check() < 1e-6


def test_the_watch_sees_what_it_watches_for(small, tmp_path):
    """A session that reads a file beside its bundle is caught."""
    (tmp_path / "reaching.py").write_text(
        "import sys\n"
        "from fusionkit.runtime import bundle\n"
        "whole = bundle.read_bundle\n"
        "def read(path):\n"
        "    open('/etc/hostname').close()\n"
        "    return whole(path)\n"
        "bundle.read_bundle = read\n"
    )
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(SCRIPT.parent)!r}]; import reaching;"
        "import fusionkit.runtime.session as s; s.read_bundle = reaching.read; import fuzzing;"
        f"sys.exit(fuzzing.main({str(small)!r}, {str(tmp_path)!r}, 0, 2))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=SCRIPT.parents[2], check=False
    )
    assert ended.returncode == 1 and "reached out: [('open', ('/etc/hostname',))" in ended.stdout, ended.stderr[-500:]
