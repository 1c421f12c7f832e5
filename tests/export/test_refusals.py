"""What cannot be exported is refused in one line with exit code 2, and leaves nothing half-written."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from fusionkit.cli.frame import main
from fusionkit.evaluation.other_data import ask, open_trained
from fusionkit.export.bundle import Draft
from fusionkit.export.graph import ExportError, check_operators, to_onnx
from fusionkit.export.run import open_fold, refuse
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.runtime import BundleError, read_bundle
from fusionkit.training.run import train
from tests.runtime import little


def model(domain=""):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], domain=domain)], "one", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_operators_of_the_standard_pass():
    check_operators(model())


def test_an_operator_of_another_domain_is_refused_by_its_name():
    with pytest.raises(ExportError, match=r"operators of ONNX alone, but got com\.microsoft"):
        check_operators(model("com.microsoft"))


def test_another_opset_is_refused_though_nothing_uses_it():
    made = model()
    made.opset_import.append(helper.make_opsetid("pkg.torch", 1))
    with pytest.raises(ExportError, match=r"pkg\.torch"):
        check_operators(made)


def test_functions_of_a_graph_are_refused():
    made = model()
    made.functions.append(onnx.FunctionProto(name="mine"))
    with pytest.raises(ExportError, match="mine"):
        check_operators(made)


class Branching(torch.nn.Module):
    def forward(self, values):
        return values * 2 if float(values.sum()) > 0 else values


def test_what_torch_cannot_export_is_said_in_a_line():
    with pytest.raises(ExportError, match="the model must export to ONNX, but") as found:
        to_onnx(Branching(), [torch.ones(2, 3)], inputs=["x"], outputs=["y"], shapes={"values": {}}, opset=20)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "error", [ExportError("target: the bundle must answer as torch does to 1e-4, but differs by 3")]
)
def test_train_tells_its_scores_before_it_says_that_there_is_no_bundle(error, tiny, tmp_path, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("fusionkit.export.run.draft_bundle", refuse)
    file = tmp_path / "tiny.yaml"
    file.write_text(dump_recipe(tiny("modalities=text", "train.epochs=1")))
    assert main(["train", str(file), "--fold", "0", "--no-report"]) == 2
    said = capsys.readouterr()
    assert "predictions.parquet" in said.out and "accuracy" in said.out
    assert said.err.splitlines()[-1] == f"error: {error}"
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert not list(folder.glob("model.fusion*"))
    assert main(["export", str(folder), "-o", str(tmp_path / "m.fusion")]) == 2
    assert capsys.readouterr().err.strip() == f"error: {error}"
    assert not list(tmp_path.glob("m.fusion*"))


def test_a_manifest_that_breaks_its_own_rules_is_not_written(tmp_path):
    with pytest.raises(BundleError):
        Draft(tmp_path / "m.fusion", {"format": "fusionkit-bundle", "version": 2}, {"a.txt": b"a"}).write()
    assert not list(tmp_path.iterdir())


def test_an_opset_that_no_runtime_has_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--opset", "99"]) == 2
    assert "less than or equal to 24" in capsys.readouterr().err


def test_eight_bits_of_steps_are_refused(tiny_run, tmp_path, capsys):
    assert main(["export", str(tiny_run.folder), "-o", str(tmp_path / "m.fusion"), "--int8", "--streaming"]) == 2
    assert capsys.readouterr().err.strip().startswith("error: --int8 is of the graph of whole windows alone")
    assert not list(tmp_path.iterdir())


TABLE = """
name: table
data: {kind: manifest, path: PATH, split: {kind: holdout, by: subject, validation: 0.25, test: 0.25}}
modalities:
  note: {kind: text, vocab_size: 300, width: 8, encoder: {kind: mlp}}
fusion: {kind: concat, dim: 8}
tasks:
  mood: {kind: classification}
train: {epochs: 1, batch: 8, single_sensors: false, device: cpu}
"""


def test_data_that_changed_since_are_refused_for_their_rows_are_others(tmp_path, capsys):
    table = tmp_path / "table.csv"
    rows = [f"{s}{k},{s},{('calm', 'tense')[k % 2]} {k},{('good', 'bad')[k % 2]}" for s in "abcd" for k in range(6)]
    table.write_text("\n".join(["id,subject,note,mood", *rows]))
    recipe = parse_recipe(TABLE.replace("PATH", str(table)), "table.yaml", [f"run.dir={tmp_path / 'runs'}"])
    run = train(recipe)
    open_fold(run, 0)  # as long as they are the same
    table.write_text("\n".join(["id,subject,note,mood", *reversed(rows)]))
    path = tmp_path / "m.fusion"
    assert main(["export", str(run.folder), "-o", str(path)]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("error: an export needs the data that began the run, but those of")
    assert not path.exists()


def test_what_its_own_reader_refuses_is_not_written(tmp_path):
    draft = Draft(tmp_path / "m.fusion", little.manifest(), {"features/eeg.onnx": b"a", "features/EEG.onnx": b"b"})
    with pytest.raises(BundleError, match=r"names of files must differ, but 'features/eeg\.onnx' occurs twice"):
        draft.write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tasks={eeg: {kind: classification, column: target}}", "tasks.eeg: must have another name"),
        ("tasks={Eeg_Length: {kind: classification, column: target}}", "which needs 'eeg_length' twice"),
        ("modalities={EEG: {kind: eeg, column: eeg}, eeg: {kind: eeg}}", "modalities.eeg: must have another name"),
        ("modalities={eeg: {kind: eeg}, eeg_present: {kind: text, column: text}}", "needs 'eeg_present' twice"),
        ("modalities={mask: {kind: eeg, column: eeg}}", "modalities.mask: must have another name"),
    ],
)
def test_names_that_a_bundle_needs_twice_are_refused_before_the_exporter_fails(override, said, tiny):
    with pytest.raises(ExportError, match="no bundle can be made of this run") as found:
        refuse(tiny(override))
    assert said in str(found.value)


def test_a_refusal_says_what_the_exporter_said():
    with pytest.raises(ExportError) as found:
        to_onnx(Branching(), [torch.ones(2, 3)], inputs=["x"], outputs=["y"], shapes={"values": {}}, opset=20)
    assert "step 1/3" not in str(found.value) and "\x1b" not in str(found.value)


def test_a_graph_names_no_file_of_the_machine_where_it_was_made(tiny_run):
    files = read_bundle(tiny_run.folder / "model.fusion").files
    for name in ("model.onnx", "features/eeg.onnx"):
        assert b"fusionkit/" not in files[name] and b'.py"' not in files[name]
    assert b"front_ends.eeg" in files["model.onnx"]  # by which eight bits know what to leave


def test_what_it_was_made_from_is_known_under_every_name(tmp_path, capsys, monkeypatch):
    rows = [f"{s}{k},{s},{('calm', 'tense')[k % 2]} {k},{('good', 'bad')[k % 2]}" for s in "abcd" for k in range(6)]
    table, other, more = (tmp_path / name for name in ("home/table.csv", "home/copy.csv", "home/more.csv"))
    table.parent.mkdir()
    for path, content in (
        (table, rows),
        (other, [*reversed(rows)]),
        (more, [row.replace("calm", "still") for row in rows]),
    ):
        path.write_text("\n".join(["id,subject,note,mood", *content]))
    recipe = parse_recipe(TABLE.replace("PATH", str(table)), "table.yaml", [f"run.dir={tmp_path / 'home' / 'runs'}"])
    run = train(recipe)
    made = tmp_path / "m.fusion"
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run.folder), "-o", str(made)]) == 0
    files = read_bundle(made).files
    assert str(tmp_path).encode() not in b"".join(files.values())
    assert b"path: table.csv" in files["recipe.yaml"]
    for path in (table, other):
        assert main(["evaluate", str(made), f"data.path={path}"]) == 0
        assert "scored are the 6 records that it never saw" in capsys.readouterr().out
    assert main(["evaluate", str(made), f"data.path={table}", "data.split.by=record"]) == 2
    assert "trained on part of its own data" in capsys.readouterr().err
    assert main(["evaluate", str(made), f"data.path={more}", "--json"]) == 0
    assert "mood" in capsys.readouterr().out
    tested = ask(open_trained(run.folder, [f"data.path={other}"])).scored
    assert tested.sum() == 6  # those of the test subject alone
    assert ask(open_trained(run.folder, [f"data.path={more}"])).scored.all()
