"""The section of a run's report, and what it reads of a fold."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.evaluation.generation import of_fold, report
from fusionkit.evaluation.generation.of_fold import FoldQuality, fold_samples
from fusionkit.evaluation.generation.report import generated_parts
from fusionkit.evaluation.report import build_report, write_report
from fusionkit.evaluation.summary import summarise
from fusionkit.recipe.build import build_modalities
from fusionkit.training.checkpoint import load_tensors, save_tensors
from fusionkit.training.device import pick_device
from fusionkit.training.generating import RECORDS, find_origin, read_lesson, read_records
from fusionkit.training.material import Material
from fusionkit.training.records import learn_tasks
from fusionkit.training.run import Run, train

OVERRIDES = ("train.epochs=1", "data.subjects=6", "data.records=16", "train.single_sensors=false")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one fold whose EEG is generated from features."""
    from fusionkit.recipe.load import parse_recipe
    from tests.conftest import TINY

    overrides = [*OVERRIDES, f"run.dir={tmp_path_factory.mktemp('generated')}"]
    return train(
        parse_recipe(TINY + "augment: {eeg: {kind: cvae, epochs: 2, add: 1.0}}\n", "tiny.yaml", overrides), fold=0
    )


def test_the_report_has_everything(run):
    page = build_report(run, summarise(run))
    for text in (
        "<h2>Generated records</h2>",
        "cvae: records by class",
        "how cvae learned",
        "held-out are its validation records",
        "told apart by a classifier",
        "maps of the records",
        "band topographies",
        "appended to training alone",
    ):
        assert text in page


def test_a_fold_is_read_as_the_generator_saw_it(run):
    with Study.open(run.study) as study:
        split = Split.load(run.folder / "split.json", study.records)
        material = Material(run.recipe, study, pick_device("cpu"))
        origin = find_origin(run.recipe, material, split, 0, "eeg")
        lesson = read_lesson(origin)
        made = read_records(origin, run.folder / "fold-0" / "generated" / "eeg" / RECORDS)
        fold = split.folds[0]
        samples = fold_samples(origin, lesson, made, fold.validation)
        cached = material.features("eeg", build_modalities(run.recipe)["eeg"]).values
        labels = study.records.labels[run.recipe.tasks["target"].column]
        here = study.sensor("eeg").present & np.array([name is not None for name in labels])
        target = np.array([origin.classes.index(name) if name else -1 for name in labels])
        held_out, train = (np.sort(rows[here[rows]]) for rows in (fold.validation, fold.train))
        assert len(held_out) < len(fold.validation), "some lack the sensor"
        np.testing.assert_allclose(samples.held_out, cached[held_out], rtol=1e-6)
        assert np.array_equal(samples.held_out_label, target[held_out])
        np.testing.assert_allclose(samples.training, cached[train], rtol=1e-6)
        assert np.array_equal(samples.training_label, target[train])
        assert len(samples.made) == len(samples.made_label) == len(train)
        assert fold_samples(origin, lesson, made, fold.validation[:0]).held_out.shape == (0, *cached.shape[1:])


def test_a_held_out_record_without_a_label_is_left_out(run, monkeypatch):
    with Study.open(run.study) as study:
        split = Split.load(run.folder / "split.json", study.records)
        material = Material(run.recipe, study, pick_device("cpu"))
        origin = find_origin(run.recipe, material, split, 0, "eeg")
        lesson = read_lesson(origin)
        made = read_records(origin, run.folder / "fold-0" / "generated" / "eeg" / RECORDS)
        rows = split.folds[0].validation
        rows = rows[study.sensor("eeg").present[rows]]
        tasks, targets = learn_tasks(run.recipe, study.records)
        unknown = {
            name: np.where(np.arange(len(target)) == rows[2], np.nan, target) for name, target in targets.items()
        }
        monkeypatch.setattr(of_fold, "learn_tasks", lambda *given: (tasks, unknown))
        samples = fold_samples(origin, lesson, made, rows)
    assert np.array_equal(samples.held_out_label, np.delete(targets["target"][rows], 2))
    assert len(samples.held_out) == len(rows) - 1


def test_findings_of_the_generator_are_said(run, monkeypatch):
    monkeypatch.setattr(report, "fold_quality", lambda *given: FoldQuality({}, []))
    path = run.folder / "fold-0" / "generated" / "eeg" / RECORDS
    tensors, facts = load_tensors(path)
    wanted = [count + 3 for count in facts["wanted"]]
    save_tensors(path, tensors, {**facts, "collapsed": facts["classes"][:1], "diverged": True, "wanted": wanted})
    try:
        with Study.open(run.study) as study:
            text = "".join(generated_parts(run, study, Split.load(run.folder / "split.json", study.records)))
    finally:
        save_tensors(path, tensors, facts)
    assert f"collapsed in fold 0 ({facts['classes'][0]})" in text
    assert "diverged in fold 0" in text
    assert (
        f"fewer records were kept than wanted in fold 0 ({facts['kept'][0]} of {wanted[0]} {facts['classes'][0]})"
        in text
    )


def test_a_run_without_generated_records_has_no_section(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("generated"))
    with Study.open(run.study) as study:
        assert not generated_parts(Run(tmp_path / "copy"), study, Split.load(run.folder / "split.json", study.records))


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_chromium_shows_it_on_either_ground(run, tmp_path, theme):
    path = write_report(run, summarise(run))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "chromium must be installed (Debian: apt-get install chromium)"
    shot = tmp_path / "report.png"
    drawn = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-quic", "--hide-scrollbars"),
            *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,3000"),
            f"--blink-settings=preferredColorScheme={['dark', 'light'].index(theme)}",
            *(f"--screenshot={shot}", path.as_uri()),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in drawn.stderr
    pixels = np.asarray(Image.open(shot).convert("L"))
    ground = pixels[5, 5]
    assert (ground < 40) if theme == "dark" else (ground > 250)
    words = pixels[:200]  # name, folder and verdict
    assert (np.abs(words.astype(int) - int(ground)) > 120).mean() > 0.01, "words must stand out"
