"""The bench of operations on a recipe: what it trains, what validation chooses, and that it takes up what is done."""

import json

import numpy as np
import pytest

from fusionkit.bench.operations import Choice, Refused, Scored, bench_operations, choose, operations
from fusionkit.cli import main
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.recipe.load import load_recipe


@pytest.fixture
def study(tmp_path):
    """Recipe and overrides of a study in which one sensor knows the label and the other does not."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 120)
    knows = draw.standard_normal((120, 4)) + 3 * label[:, None]
    np.savez(
        tmp_path / "two.npz", knows=knows, guesses=draw.standard_normal((120, 4)), y=label, who=np.arange(120) % 12
    )
    (tmp_path / "two.yaml").write_text(
        f"""
name: two
data:
  kind: npz
  path: {tmp_path / "two.npz"}
  columns: {{subject: who}}
  split: {{kind: holdout, by: subject, test: 0.34, validation: 0.25}}
modalities:
  knows: {{kind: signal, encoder: {{kind: mlp, hidden: 8}}}}
  guesses: {{kind: signal, encoder: {{kind: mlp, hidden: 8}}}}
fusion: {{kind: vote, dim: 8}}
tasks: {{y: {{kind: classification}}}}
train: {{epochs: 4, batch: 16, lr: 0.02, patience: 0}}
run: {{dir: {tmp_path / "runs"}}}
"""
    )
    return str(tmp_path / "two.yaml")


def test_sensors_first_then_operations_and_nothing_is_trained_twice(study, tmp_path):
    rows = list(bench_operations(study, names=["concat", "vote mean"]))
    assert [row.name for row in rows] == ["knows alone", "guesses alone", "concat", "vote mean"]
    by_name = {row.name: row for row in rows}
    assert by_name["knows alone"].test > 0.95 and by_name["guesses alone"].test < 0.75
    assert by_name["concat"].test > 0.9 and 0 <= by_name["concat"].error < 0.1
    made = sorted(path.name for path in (tmp_path / "runs").glob("two-*/*"))
    again = list(bench_operations(study, names=["concat", "vote mean"]))
    assert [(row.name, row.test, row.validation) for row in again] == [(r.name, r.test, r.validation) for r in rows]
    assert sorted(path.name for path in (tmp_path / "runs").glob("two-*/*")) == made


def test_the_command_says_whether_what_validation_chose_holds(study, capsys):
    assert main(["bench", "operations", study, "--only", "concat", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["choice"]["kept"] and found["choice"]["single"]["name"] == "knows alone"
    assert main(["bench", "operations", study, "--only", "concat", "--reference", "1.5"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL  it must reach 1.")


def test_what_does_not_fit_is_a_row_with_its_reason(study):
    rows = list(bench_operations(study, ["fusion.dim=5"], names=["self_attention"]))
    assert isinstance(rows[-1], Refused) and "heads" in rows[-1].reason


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "concatt"], "--only must name operations, but got 'concatt'; did you mean 'concat'?"),
        (["--task", "x"], "--task must be one of y, but got 'x'"),
    ],
)
def test_bad_options_are_told_in_a_line(study, arguments, said, capsys):
    assert main(["bench", "operations", study, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_graph_has_no_place_for_another_operation(study):
    with pytest.raises(ConfigError, match="is a graph"):
        next(bench_operations(study, ["fusion={graph: {a: {kind: concat, inputs: [knows, guesses]}}}"]))


def test_validation_chooses_and_test_judges(study):
    recipe = load_recipe(study)
    rows = [
        Scored("knows alone", 0.9, 0.80, 0.02, 1.0),
        Scored("guesses alone", 0.5, 0.95, 0.02, 1.0),
        Scored("concat", 0.95, 0.79, 0.02, 1.0),
        Scored("tensor", 0.8, 0.99, 0.02, 1.0),
    ]
    choice = choose(recipe, "y", rows)
    assert (choice.fused.name, choice.single.name) == ("concat", "knows alone")
    assert choice.least == pytest.approx(0.78) and choice.kept
    assert not choose(recipe, "y", rows, reference=0.9).kept
    assert not Choice(rows[0], rows[0], 0.5, higher_is_better=False).kept
    with pytest.raises(DataError):
        choose(recipe, "y", rows[:2])


def test_every_operation_is_there_and_the_tensor_is_no_wider_than_the_sensors_allow():
    from fusionkit.core import registry

    for sensors in range(2, 13):
        known = operations(sensors)
        assert {entry["kind"] for entry in known.values()} == set(registry.fusion.kinds())
        assert (known["tensor"]["width"] + 1) ** sensors <= 4096 < (known["tensor"]["width"] + 2) ** sensors
