"""The table of known answers: what is drawn, what counts as a fault, and that every fusion answers as it must."""

import json

import pytest
import torch

from fusionkit.bench import known
from fusionkit.bench.known import ADDING, FUSIONS, JOINING, NAMES, Drawn, KnownAnswers, bench_known, sensor_alone
from fusionkit.cli import main
from fusionkit.recipe.build import build_model

SOUND = {"redundant": 0.9, "unique": 0.8, "noise": 0.7, "guarded": 0.86}


def test_no_sensor_alone_knows_the_xor_and_together_they_do():
    drawn = Drawn("xor", 0)
    vectors = [torch.linalg.lstsq(x, drawn.target[:, None] * 2 - 1).solution for x in drawn.vectors.values()]
    for weights, x in zip(vectors, drawn.vectors.values(), strict=True):
        assert (((x @ weights)[:, 0] > 0) == drawn.target).float().mean() < 0.55
    assert 0.45 < drawn.target.mean() < 0.55 and list(drawn.vectors) == list(NAMES)


def test_guarding_trains_with_dropout_and_corruption_and_nothing_else_does(monkeypatch):
    built = []

    def build(recipe, *given):
        built.append(build_model(recipe, *given))
        return built[-1]

    monkeypatch.setattr(known, "EPOCHS", 1)
    monkeypatch.setattr(known, "build_model", build)
    drawn = Drawn("redundant", 0)
    plain, guarded = drawn.accuracies({"kind": "vote"}), drawn.accuracies({"kind": "vote"}, guard=True)
    assert [model.modality_dropout for model in built] == [0.0, known.DROPOUT] and built[0].corruption is None
    assert (built[1].corruption.share, built[1].corruption.strength) == (known.CORRUPTION, known.STRONGEST)
    assert plain != guarded and plain == drawn.accuracies({"kind": "vote"})


@pytest.mark.parametrize(
    ("row", "faults"),
    [
        (KnownAnswers("vote mean", xor=0.5, **SOUND), 0),
        (KnownAnswers("vote mean", xor=0.97, **SOUND), 1),
        (KnownAnswers("tensor", xor=0.97, **SOUND), 0),
        (KnownAnswers("tensor", xor=0.94, **{**SOUND, "guarded": 0.81}), 2),
    ],
)
def test_faults_are_by_what_a_fusion_must_do(row, faults):
    assert len(row.faults(remaining=0.85)) == faults
    assert row.fusion in (*ADDING, *JOINING) and set(ADDING) | set(JOINING) <= set(FUSIONS)


def test_the_table_names_every_fault_and_ends_with_code_1(monkeypatch, capsys):
    rows = [KnownAnswers("vote mean", xor=0.5, **SOUND), KnownAnswers("mult", xor=0.5, **SOUND)]
    monkeypatch.setattr(known, "sensor_alone", lambda seed: 0.85)
    monkeypatch.setattr(known, "bench_known", lambda seed: iter(rows))
    assert main(["bench", "known"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| vote mean | 0.900 | 0.800 | 0.500 | 0.700 | 0.860 |" and lines[0].count("|") == 7
    assert (
        lines[4].startswith("| best possible |") and lines[-1] == "FAIL  mult: xor must be solved (0.95), but is 0.500"
    )
    assert main(["bench", "known", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [len(row["faults"]) for row in found["rows"]] == [0, 1] and found["best_possible"]["xor"] > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["vote product", "concat", "tensor"])
def test_some_fusions_of_every_level_answer_as_they_must(fusion, remaining):
    (row,) = bench_known([fusion])
    assert row.faults(remaining) == []


@pytest.mark.study
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_answers_as_it_must(fusion, remaining):
    (row,) = bench_known([fusion])
    assert row.faults(remaining) == []


@pytest.fixture(scope="module")
def remaining():
    """Accuracy of the best sensor alone that gives no noise."""
    return sensor_alone()
