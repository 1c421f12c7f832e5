"""Noise at test: which sensors get it, what is refused, and what `evaluate --noise` prints."""

import json

import pytest
import torch

from fusionkit.cli import main
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.levels import Batch, Features, Window
from fusionkit.core.registry import modalities
from fusionkit.evaluation.noise import NoiseAtTest, read_noise
from fusionkit.evaluation.other_data import answer_held_out, score_answers
from fusionkit.evaluation.summary import summarise
from fusionkit.recipe.load import load_recipe
from fusionkit.training.run import train


def batch():
    there = torch.ones(2, dtype=torch.bool)
    pictures = Window(torch.rand(2, 3, 5, 5), torch.full((2,), 5), there)
    text = Window(torch.ones(2, 4, dtype=torch.long), torch.full((2,), 4), there)
    made = Features(torch.zeros(2, 3, 1, 1), torch.ones(2, 3, dtype=torch.bool), there)
    return Batch({"image": pictures, "text": text, "eeg": made}, {"y": torch.zeros(2)})


def sensors():
    return {name: modalities.build(name) for name in ("image", "text", "eeg")}


def test_only_the_sensors_that_were_named_get_noise_within_their_limits():
    clean, noisy = batch(), NoiseAtTest({"image": 0.8}, sensors())(batch())
    assert noisy.inputs["text"].values.equal(clean.inputs["text"].values) and "y" in noisy.targets
    values = noisy.inputs["image"].values
    assert values.min() == 0 and values.max() == 1 and (values[0, 0] != values[0, 1]).any()
    assert NoiseAtTest({}, sensors())(clean).inputs == clean.inputs


def test_one_seed_gives_one_noise_and_batches_differ():
    one, two = (NoiseAtTest({"image": 0.1}, sensors()) for _ in range(2))
    clean = batch()
    first, again = one(clean).inputs["image"].values, two(clean).inputs["image"].values
    assert torch.equal(first, again) and not torch.equal(first, one(clean).inputs["image"].values)


def test_words_are_read_or_refused():
    assert read_noise(["image=0.8", "eeg=1e-5"]) == {"image": 0.8, "eeg": 1e-5}
    for word, said in (
        ("image", "must be SENSOR=DEVIATION, but got 'image'"),
        ("image=much", "must be SENSOR=DEVIATION, but got 'image=much'"),
        ("image=-1", "a finite deviation above 0, but got 'image=-1'"),
        ("image=nan", "a finite deviation above 0, but got 'image=nan'"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_noise([word])


def test_sensors_that_can_have_no_noise_are_refused_by_name():
    with pytest.raises(UnknownNameError, match="no sensor named 'imge'; did you mean 'image'"):
        NoiseAtTest({"imge": 1.0}, sensors())
    for name, said in (("text", "this one gives ids"), ("eeg", "features smoothed across records")):
        with pytest.raises(ConfigError, match=f"--noise {name}: noise must be .*{said}"):
            NoiseAtTest({name: 1.0}, sensors())(batch())


def test_evaluate_scores_a_run_as_recorded_and_with_noise(tiny_run, capsys):
    assert main(["evaluate", str(tiny_run.folder), "--noise", "eeg=1.0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    clean, noisy = (score_answers(*answer_held_out(tiny_run.folder, noise=n))["target"] for n in ({}, {"eeg": 1.0}))
    assert found["as_recorded"]["target"]["nll"]["value"] == pytest.approx(clean["nll"].value)
    assert found["with_noise"]["target"]["nll"]["value"] == pytest.approx(noisy["nll"].value)
    assert clean["nll"].value != noisy["nll"].value  # a volt of noise on microvolts
    assert main(["evaluate", str(tiny_run.folder), "--noise", "eeg=1.0"]) == 0
    shown = capsys.readouterr().out
    assert "with noise" in shown and f"{noisy['nll'].value:.3f}" in shown
    assert main(["evaluate", str(tiny_run.folder), "--noise", "ecg=1.0"]) == 2
    assert "no sensor named 'ecg'" in capsys.readouterr().err


@pytest.mark.study
def test_of_the_shipped_recipes_the_robust_one_keeps_what_audio_alone_has(real_data, tmp_path):
    clean, noisy, audio = {}, {}, 0.0
    for name in ("avmnist", "avmnist_robust"):
        options = [f"data.path={real_data / 'avmnist_small.npz'}", f"run.dir={tmp_path}"]
        run = train(load_recipe(name, [*options, f"train.single_sensors={name == 'avmnist'}"]))
        for found, deviations in ((clean, {}), (noisy, {"image": 0.8})):
            found[name] = score_answers(*answer_held_out(run.folder, noise=deviations))["y"]["accuracy"].value
        rows = {row.name: row.scores["accuracy"].value for row in summarise(run).tasks["y"].rows}
        audio = max(audio, rows.get("audio alone", 0.0))
    assert clean["avmnist_robust"] >= clean["avmnist"] - 0.01
    assert noisy["avmnist_robust"] >= audio - 0.03 > noisy["avmnist"]
