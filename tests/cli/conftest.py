"""Data of four made-up people to be spoiled, and what every refusal must look like."""

import csv
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from fusionkit.cli import main

RECIPE = """\
name: small
data: {kind: manifest, path: t.csv, split: {kind: k_fold, by: subject, folds: 2, validation: 0.5}}
modalities:
  eeg: {kind: eeg, encoder: {kind: mlp}}
  audio: {kind: audio, sample_rate: 8000, encoder: {kind: mlp}}
  image: {kind: image, encoder: {kind: mlp}}
fusion: {kind: concat, dim: 8}
tasks: {state: {kind: classification}}
train: {epochs: 1, single_sensors: false, device: cpu}
"""


def write_edf(path, signals, rate):
    """EDF by its definition: a header, then a block of 16-bit samples a second; one step is 0.1 uV."""
    count, seconds = signals.shape[0], signals.shape[1] // rate
    names = ("EEG Fz", "EEG Cz", "EEG Pz")[:count]

    def text(value, size):
        return str(value).encode().ljust(size)[:size]

    head = text(0, 8) + text("X", 160) + b"01.01.2501.00.00" + text(256 * (count + 1), 8) + text("", 44)
    head += text(seconds, 8) + text(1, 8) + text(count, 4)
    fields = [(names, 16), (["e"] * count, 80), (["uV"] * count, 8), ([-3276.7] * count, 8), ([3276.7] * count, 8)]
    fields += [([-32767] * count, 8), ([32767] * count, 8), ([""] * count, 80), ([rate] * count, 8), ([""] * count, 32)]
    head += b"".join(text(value, size) for values, size in fields for value in values)
    digital = np.round(signals * 1e7).astype("<i2").reshape(count, seconds, rate)
    path.write_bytes(head + digital.transpose(1, 0, 2).tobytes())


@pytest.fixture(scope="session")
def sound_data(tmp_path_factory):
    """Four people with four records each, made once; and two EDF files unlike the others."""
    folder = tmp_path_factory.mktemp("sound")
    noise = np.random.default_rng(0)
    rows = []
    for number in range(16):
        write_edf(folder / f"{number}.edf", noise.normal(0, 2e-5, (2, 200)), 100)
        soundfile.write(folder / f"{number}.wav", noise.normal(0, 0.1, 800).astype("f4"), 8000)
        Image.fromarray(noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append(
            {
                "id": f"r{number}",
                "subject": f"S{number // 4}",
                "recording": f"{number}",
                "eeg": f"{number}.edf",
                "audio": f"{number}.wav",
                "image": f"{number}.png",
                "state": ("rest", "work")[number % 2],
            }
        )
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "r.yaml").write_text(RECIPE)
    write_edf(folder / "faster.edf", noise.normal(0, 2e-5, (2, 300)), 150)
    write_edf(folder / "wider.edf", noise.normal(0, 2e-5, (3, 200)), 100)
    return folder


@pytest.fixture
def lab(sound_data, tmp_path, monkeypatch):
    """The current folder: a copy of the data, to be spoiled."""
    folder = tmp_path / "lab"
    shutil.copytree(sound_data, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refusal(capsys):
    """Run a command line that must be refused; gives the lines of errors without their ``error: ``."""

    def run(*words):
        assert main([str(word) for word in words]) == 2
        err = capsys.readouterr().err
        lines = err.splitlines()
        assert lines and all(line.startswith("error: ") for line in lines), err
        return [line.removeprefix("error: ") for line in lines]

    return run


@pytest.fixture
def left():
    """Every file and folder below one, but what ingestion keeps in the cache to go on with."""
    return lambda folder: {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".cache" not in path.parts
    }
