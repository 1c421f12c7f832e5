"""Raw recordings, pushed in any pieces, give the answers that `fusionkit evaluate` gives of the same files."""

import csv

import mne
import numpy as np
import pytest
import soundfile
from PIL import Image

from fusionkit.evaluation.other_data import ask, open_trained
from fusionkit.export.run import export_run
from fusionkit.recipe.load import parse_recipe
from fusionkit.runtime import Session
from fusionkit.runtime.stream import Stream
from fusionkit.training.run import train

RECIPE = """
name: live
data: {{kind: manifest, path: {path}, split: {{kind: k_fold, by: subject, folds: 2, validation: 0.5}}}}
modalities:
  eeg:
    kind: eeg
    sample_rate: 125
    preprocess: {{method: causal, notch: 50, low: 0.5, reference: average, resample: 100}}
    features: {{kind: bandpass, window: 0.5, bands: {{theta: [4, 8], alpha: [8, 14]}}}}
    align: {{kind: euclidean, seconds: 3, over: recording}}
    normalise: {{kind: calibration, seconds: 4, over: recording, update: true}}
    encoder: {{kind: mlp}}
  audio:
    kind: audio
    sample_rate: 1000
    mel_bands: 6
    frame: 0.1
    hop: 0.05
    normalise: {{kind: calibration, seconds: 2, over: recording}}
    encoder: {{kind: mlp}}
  image: {{kind: image, size: 8, encoder: {{kind: mlp}}}}
  text: {{kind: text, vocab_size: 300, width: 4, encoder: {{kind: mlp}}}}
fusion: {{kind: vote, dim: 8}}
tasks: {{state: {{kind: classification}}}}
train: {{epochs: 2, device: cpu, single_sensors: false}}
run: {{dir: {runs}}}
"""
RATES = {"eeg": 125, "audio": 1000}
WORDS = ("calm sea", "storm and rain", "a quiet evening", "run, run!")


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A run with four sensors, its bundle, and what `evaluate` answers about each record."""
    folder = tmp_path_factory.mktemp("live")
    generator = np.random.default_rng(0)
    rows = []
    for person in range(4):
        eeg = generator.normal(size=(4, 125 * 12)).cumsum(1) * 1e-6 + generator.normal(size=(4, 1)) * 1e-4
        info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], 125.0, "eeg", verbose="ERROR")
        mne.io.RawArray(eeg, info, verbose="ERROR").save(folder / f"{person}_raw.fif", verbose="ERROR")
        sound = (generator.normal(size=1000 * 12) / 8).clip(-1, 1).astype(np.float32)
        soundfile.write(folder / f"{person}.wav", sound, 1000, subtype="FLOAT")
        for part in range(12):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{person}_{part}.png")
            rows.append(
                {
                    "id": f"{person}-{part}", "subject": str(person), "eeg": f"{person}_raw.fif", "eeg_start": part,
                    "eeg_stop": part + 1, "audio": f"{person}.wav", "audio_start": part, "audio_stop": part + 1,
                    "image": f"{person}_{part}.png", "text": WORDS[int(generator.integers(4))], "state": "xy"[part % 2],
                }
            )  # fmt: skip
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    run = train(parse_recipe(RECIPE.format(path=folder / "manifest.csv", runs=folder / "runs"), "live.yaml"), fold=0)
    export_run(run, run.folder / "model.fusion")
    answered = ask(open_trained(run.folder, []))
    wanted = dict(zip(answered.study.records.id, answered.predictions["state"], strict=True))
    recordings = []
    for person in range(4):
        raw = mne.io.read_raw(folder / f"{person}_raw.fif", preload=True, verbose="ERROR").get_data().T
        sound = soundfile.read(folder / f"{person}.wav", dtype="float32")[0]
        mine = [row for row in rows if row["subject"] == str(person)]
        images = [np.asarray(Image.open(folder / row["image"])).transpose(2, 0, 1) for row in mine]
        recordings.append({"eeg": raw, "audio": sound, "image": images, "text": [row["text"] for row in mine]})
    return Session.load(run.folder / "model.fusion"), recordings, wanted


def replay(stream, recording, generator, most):
    """Push a recording in pieces of random size, sensors in random order; what has no time before it is needed."""
    decisions = []
    place = dict.fromkeys(RATES, 0)
    untimed = dict.fromkeys(("image", "text"), 0)
    while any(place[name] < len(recording[name]) for name in RATES):
        name = str(generator.choice([name for name in RATES if place[name] < len(recording[name])]))
        at, rate = place[name], RATES[name]
        chunk = recording[name][at : at + int(generator.integers(0, most * rate))]
        place[name] += len(chunk)
        for other, done in untimed.items():
            ahead = int(place[name] / rate) + 1 + int(generator.integers(0, 3))
            values = recording[other][done:ahead]
            untimed[other] += len(values)
            if values:
                decisions += stream.push(other, values, np.arange(done, done + len(values)) + 0.0)
        kind = generator.integers(3)
        stamps = [None, at / rate, (at + np.arange(len(chunk))) / rate][kind] if len(chunk) else None
        decisions += stream.push(name, chunk, stamps)
    return decisions


def check(live, chunkings, seed):
    session, recordings, wanted = live
    generator = np.random.default_rng(seed)
    largest = 0.0
    for trial in range(chunkings):
        person = trial % 4
        stream = Stream(session, late=None)
        decisions = replay(stream, recordings[person], generator, generator.choice([0.06, 0.2, 1, 3, 14]))
        assert [round(decision.time) for decision in decisions] == list(range(4, 13))
        assert stream.health.calibrating == 3 and stream.health.skipped == 0
        for decision in decisions:
            assert all(decision.present.values())
            if decision.time > 4.5:  # the one at 4 s is about the end of the segment, which evaluate does not score
                there = wanted[f"{person}-{round(decision.time) - 1}"]
                largest = max(largest, float(np.abs(decision.answers["state"] - there).max()))
    assert largest < 1e-5
    spread = np.array(list(wanted.values())).std(0).min()
    assert spread > 1e-3  # the answers do depend on the windows


def test_random_chunkings_answer_as_evaluate_does(live):
    check(live, 24, 0)


@pytest.mark.study
def test_a_thousand_random_chunkings_answer_as_evaluate_does(live):
    check(live, 1000, 1)
