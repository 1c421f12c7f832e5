"""Weights of eight bits: what is quantised, what is not, and what it costs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusionkit.core.errors import DataError
from fusionkit.export.graph import ExportError
from fusionkit.export.int8 import compare_scores, quantise
from fusionkit.heads.classification import Classification
from fusionkit.runtime.graph import open_graph

WIDTH = 32


def chain(*scopes):
    """Products of a vector with matrices, each in the module that its scope says."""
    generator, nodes, weights, name = np.random.default_rng(0), [], [], "x"
    for number, scope in enumerate(scopes):
        node = helper.make_node("MatMul", [name, f"w{number}"], [f"y{number}"], name=f"product{number}")
        node.metadata_props.append(onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value=scope))
        matrix = generator.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{number}"))
        nodes.append(node)
        name = f"y{number}"
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", WIDTH]) for n in ("x", name)]
    graph = helper.make_graph(nodes, "chain", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def test_matrices_become_whole_numbers_and_answers_stay_near():
    graph = chain("['', 'model', 'model.encoders.eeg']", "['', 'model', 'model.heads']")
    made, counts = quantise(graph)
    assert counts == {"MatMul": 2}
    assert len(made) < len(graph) / 2
    x = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
    plain, small = (open_graph(one, "x").run(None, {"x": x})[0] for one in (graph, made))
    assert 0 < np.abs(plain - small).max() < 0.1 * np.abs(plain).max()


def test_front_ends_keep_their_bits():
    graph = chain("['', 'model', 'model.front_ends.eeg']", "['', 'model', 'model.heads']")
    made, counts = quantise(graph)
    assert counts == {"MatMul": 1}
    left = [node for node in onnx.load_from_string(made).graph.node if node.op_type == "MatMul"]
    assert [node.input[1] for node in left] == ["w0"]


def test_a_graph_of_front_ends_alone_is_refused():
    with pytest.raises(ExportError, match="must have MatMul, Gemm with weights to be quantised, but has none"):
        quantise(chain("['', 'model', 'model.front_ends.eeg']"))


@pytest.fixture
def task():
    made = Classification(classes=["a", "b"])
    made.fit(np.array([0.0, 1.0]), "state")
    return made


def test_differences_are_paired_over_subjects(task):
    """Both answer a hard subject badly: scores differ widely between draws, their difference does not."""
    right = np.tile([0.0, 1.0], 30)
    groups = np.repeat(np.arange(6), 10)
    before = np.where(right[:, None] == [0, 1], 0.9, 0.1)
    before[groups < 3] = before[groups < 3][:, ::-1]
    after = before.copy()
    after[::10] = after[::10, ::-1]  # one record of each subject
    found = compare_scores({"state": task}, {"state": before}, {"state": after}, {"state": right}, groups)
    accuracy = found["state"]["accuracy"]
    assert (accuracy.before.value, accuracy.after.value) == (0.5, 0.5)
    assert accuracy.before.high - accuracy.before.low > 0.5
    alike = compare_scores({"state": task}, {"state": before}, {"state": before}, {"state": right}, groups)
    for change in alike["state"].values():
        assert change.difference.value == change.difference.low == change.difference.high == 0


def test_nothing_is_said_without_labels(task):
    answers = {"state": np.full((4, 2), 0.5)}
    with pytest.raises(DataError, match="judged by labelled test records"):
        compare_scores({"state": task}, answers, answers, {"state": np.full(4, np.nan)}, np.arange(4))
