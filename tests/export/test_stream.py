"""Raw recordings of a laboratory, pushed through a bundle's chain in any pieces, give the answers of `fusionkit evaluate`."""

import csv
import shutil

import mne
import numpy as np
import pytest
import torch

from fusionkit.evaluation.other_data import ask, open_trained
from fusionkit.export.run import export_run
from fusionkit.recipe.load import parse_recipe
from fusionkit.runtime import Session
from fusionkit.runtime.alignment import align, calibrate_alignment
from fusionkit.training.run import train

RECIPE = """
name: stream
data: {{kind: manifest, path: {path}, split: {{kind: k_fold, by: subject, folds: 2, validation: 0.5}}}}
modalities: {{eeg: {{kind: eeg, channels: ["EEG F*", "EEG C*", "EEG O*"], sample_rate: 125, encoder: {{kind: mlp}}}}}}
fusion: {{kind: vote, dim: 8}}
tasks: {{state: {{kind: classification}}}}
train: {{epochs: 1, device: cpu, single_sensors: false}}
export: {{streaming: true}}
run: {{dir: {runs}}}
"""
BANDPASS = "modalities.eeg.features={kind: bandpass, bands: {theta: [4, 8], alpha: [8, 14], beta: [14, 31]}}"
ALIGNED = "modalities.eeg.align={kind: euclidean, seconds: 8, over: recording}"


@pytest.fixture(scope="module")
def lab(real_data, tmp_path_factory):
    """Records of four people, and their files."""
    folder = tmp_path_factory.mktemp("lab")
    with open(real_data / "lab" / "manifest.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["subject"] in ("S00", "S01", "S02", "S03") and row["eeg"]]
    keys = ["id", "subject", "recording", "eeg", "eeg_start", "eeg_stop", "state"]
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, keys, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    for name in {row["eeg"] for row in rows}:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(real_data / "lab" / name, folder / name)
    return folder, rows


@pytest.mark.parametrize(
    "options",
    [
        [
            BANDPASS,
            "modalities.eeg.preprocess={method: causal, notch: 50, low: 0.5, reference: average, resample: 100}",
        ],
        [
            BANDPASS,
            ALIGNED,
            "modalities.eeg.preprocess={method: causal, low: 1, bad: {given: [Cz]}, interpolate_bad: false}",
        ],
        ["modalities.eeg.preprocess={method: causal, high: 40}", ALIGNED, "modalities.eeg.smooth={kind: lds}"],
    ],
)
def test_a_stream_of_raw_files_is_answered_as_the_run_answers_its_records(options, lab, tmp_path):
    folder, rows = lab
    run = train(
        parse_recipe(RECIPE.format(path=folder / "manifest.csv", runs=tmp_path), "stream.yaml", options), fold=0
    )
    export_run(run, run.folder / "model.fusion")
    session = Session.load(run.folder / "model.fusion")
    told = session.sensors["eeg"]
    answered = ask(open_trained(run.folder, []))
    wanted = dict(zip(answered.study.records.id, answered.predictions["state"], strict=True))
    generator, seen = np.random.default_rng(0), 0
    for name in sorted({row["eeg"] for row in rows})[:4]:
        raw = mne.io.read_raw(folder / name, preload=True, verbose="ERROR")
        signal = raw.get_data([channel.removeprefix("EEG ") for channel in told.channels]).T
        matrix = None
        if told.align is not None:
            first = round(told.align.seconds * told.sample_rate)
            segment = session.chain("eeg", bank=False).push(signal)[:first].T
            matrix = calibrate_alignment(segment, told.align.samples, told.align.scale)
        chain = session.chain("eeg")
        cuts = np.cumsum(generator.integers(0, 300, 200))
        stream = np.concatenate([chain.push(piece) for piece in np.split(signal, cuts[cuts < len(signal)])])
        for row in [row for row in rows if row["eeg"] == name]:
            start, stop = (round(float(row[key]) * told.sample_rate) for key in ("eeg_start", "eeg_stop"))
            window = np.moveaxis(stream[start:stop], 0, -1)
            window = window if matrix is None else align(matrix, window)
            got = session.predict({"eeg": window})["state"][0]
            np.testing.assert_allclose(got, wanted[row["id"]], atol=1e-5)
            seen += 1
    assert seen > 40 and torch.tensor(answered.predictions["state"]).std(0).min() > 1e-3
