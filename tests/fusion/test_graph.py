"""The typed graph: what is read, and every rule with its path and message."""

import textwrap

import pytest
import torch
import yaml

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.encoders.encoder import FeatureEncoder, WindowEncoder
from fusionkit.fusion.graph import Graph, GraphError, Node, parse_graph

SENSORS = ["eeg", "ecg", "audio", "image", "text"]


@pytest.fixture(autouse=True)
def _encoders(monkeypatch):
    """Encoders of this test's own, whatever others there are."""

    class Small(FeatureEncoder):
        def __init__(self, shape, dim, *, depth: int = 1) -> None: ...

    class Whole(WindowEncoder):
        pass

    made = registry.Registry("encoders")
    made.register("mlp")(Small)
    made.register("cnn")(Whole)
    monkeypatch.setattr(registry, "encoders", made)


def read(text, modalities=SENSORS, tasks_from=None):
    return parse_graph(yaml.safe_load(textwrap.dedent(text)), modalities, tasks_from)


def problems(text, modalities=SENSORS, tasks_from=None):
    with pytest.raises(GraphError) as caught:
        read(text, modalities, tasks_from)
    assert isinstance(caught.value, ConfigError)
    return caught.value.problems


DESIGN = """
dim: 32
graph:
  answer: {kind: vote, inputs: [physio, speech, image], rule: learned}
  speech: {kind: rcft, inputs: [audio, text], layers: 3}
  physio: {kind: concat, inputs: [eeg, ecg], encoder: {kind: mlp, depth: 2}}
"""


def test_the_long_form_is_read_and_put_in_order():
    graph = read(DESIGN)
    assert graph.dim == 32
    assert graph.modalities == tuple(SENSORS)
    assert [node.name for node in graph.nodes] == ["speech", "physio", "answer"]
    assert graph.end == Node("answer", "vote", "late", ("physio", "speech", "image"), {"rule": "learned"}, None)
    assert graph["physio"] == Node("physio", "concat", "early", ("eeg", "ecg"), {}, {"kind": "mlp", "depth": 2})
    assert graph["speech"].options == {"layers": 3}
    with pytest.raises(UnknownNameError, match="did you mean 'speech'"):
        graph["speach"]


def test_the_short_form_is_one_node_over_all_modalities():
    graph = read("{kind: rcft, dim: 48, layers: 2}")
    assert graph == Graph(
        (Node("fused", "rcft", "intermediate", tuple(SENSORS), {"layers": 2}, None),), tuple(SENSORS), 48
    )
    assert read("{kind: concat}").end.encoder == {"kind": "mlp"}
    assert read("{kind: concat}").dim == 64
    assert read("{kind: vote}", ["eeg"]).end.inputs == ("eeg",)


@pytest.mark.parametrize("section", [None, {}, {"dim": 16}])
def test_one_modality_needs_no_fusion(section):
    graph = parse_graph(section, ["eeg"])
    assert (graph.end.kind, graph.end.inputs) == ("vote", ("eeg",))
    with pytest.raises(GraphError, match="several modalities need a kind or a graph"):
        parse_graph(section, ["eeg", "audio"])


def test_a_node_may_feed_two_and_intermediate_nodes_may_chain():
    graph = read("""
        graph:
          joint: {kind: concat, inputs: [eeg, ecg]}
          first: {kind: rcft, inputs: [joint, audio]}
          second: {kind: rcft, inputs: [first, joint, image, text]}
        """)
    assert [node.name for node in graph.nodes] == ["joint", "first", "second"]


def test_options_are_converted_as_the_signature_says():
    graph = parse_graph({"kind": "rcft", "layers": "2"}, ["eeg", "audio"])
    assert graph.end.options == {"layers": 2}


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("{kind: rfct}", "kind", "no fusion component named 'rfct'; did you mean 'rcft'?"),
        ("{kind: rcft, layer: 2}", "layer", "no such option; did you mean 'layers'?"),
        ("{kind: rcft, layers: 0}", "layers", "greater than or equal to 1, got 0"),
        ("{kind: rcft, layers: two}", "layers", "valid integer"),
        ("{kind: vote, rule: median}", "rule", "'majority' or 'learned', got 'median'"),
        ("{kind: rcft, dim: 0}", "dim", "at least 1, got 0"),
        ("{kind: rcft, dim: true}", "dim", "at least 1, got True"),
        (
            "{kind: rcft, encoder: {kind: mlp}}",
            "encoder",
            "only an early node has its own encoder, but 'rcft' is inter",
        ),
        ("{kind: concat, encoder: {kind: mpl}}", "encoder.kind", "did you mean 'mlp'"),
        ("{kind: concat, encoder: {kind: mlp, dept: 2}}", "encoder.dept", "no such option; did you mean 'depth'"),
        ("{kind: concat, encoder: {kind: cnn}}", "encoder.kind", "takes features, but 'cnn' takes windows"),
        ("{kind: concat, encoder: mlp}", "encoder", "must be a mapping with a kind, got 'mlp'"),
        ("{knd: rcft}", "", "need a kind or a graph to be fused, but it has 'knd'; did you mean 'kind'?"),
        ("[rcft]", "", "fusion must be a mapping, got ['rcft']"),
        ("graph: {}", "graph", "at least one node"),
        ("graph: [a, b]", "graph", "at least one node"),
    ],
)
def test_a_broken_section_is_refused(text, path, message):
    found = problems(text)
    assert [place for place, _ in found] == [path]
    assert message in found[0][1]


def graph_of(**nodes):
    """A section whose nodes otherwise use every sensor."""
    return yaml.safe_dump({"graph": nodes}, sort_keys=False)


def node(kind, *inputs, **options):
    return {"kind": kind, "inputs": list(inputs), **options}


ALL = [*SENSORS]


@pytest.mark.parametrize(
    ("nodes", "path", "message"),
    [
        (
            {"a": node("vote", *ALL[:4], "txt")},
            "graph.a.inputs",
            "no modality or node named 'txt'; did you mean 'text'?",
        ),
        ({"a": node("vote", *ALL, "zzz")}, "graph.a.inputs", "no modality or node named 'zzz'; known: ['audio'"),
        ({"eeg": node("vote", *ALL)}, "graph.eeg", "a node may not be named like a modality"),
        ({"a b": node("vote", *ALL)}, "graph.a b", "a node's name must be letters"),
        ({"a": node("vote", *ALL[:4])}, "graph", "every modality must be used, but 'text' feeds no node"),
        ({"a": node("vote", *ALL, "eeg")}, "graph.a.inputs", "an input may be named once, but 'eeg' is named again"),
        ({"a": node("vote")}, "graph.a.inputs", "must be a list of modalities or earlier nodes, got []"),
        ({"a": {"kind": "vote", "inputs": "eeg"}}, "graph.a.inputs", "must be a list of modalities or earlier nodes"),
        ({"a": {"inputs": ALL}}, "graph.a.kind", "must be given, one of"),
        ({"a": "vote"}, "graph.a", "a node must be a mapping with kind and inputs, got 'vote'"),
        ({"a": node("vote", *ALL, rul="mean")}, "graph.a.rul", "did you mean 'rule'"),
        ({"a": node("rcft", *ALL, "a")}, "graph.a.inputs", "a graph may have no cycle, but a -> a"),
        (
            {
                "x": node("rcft", "eeg", "z"),
                "y": node("rcft", "x"),
                "z": node("rcft", "y"),
                "w": node("vote", *ALL, "z"),
            },
            "graph.x.inputs",
            "a graph may have no cycle, but x -> y -> z -> x",
        ),
        (
            {"a": node("rcft", *ALL), "b": node("rcft", "eeg", "text"), "c": node("vote", "eeg")},
            "graph",
            "a graph has one end, but no node takes 'a', 'b', 'c'",
        ),
        (
            {"a": node("vote", "eeg", "ecg"), "b": node("rcft", "a", "audio", "image", "text")},
            "graph.b.inputs",
            "a late node may only be last, but 'a' (vote) feeds 'b'",
        ),
        (
            {"a": node("rcft", "eeg", "ecg"), "b": node("concat", "a", "audio", "image", "text")},
            "graph.b.inputs",
            "an early node takes the features of modalities, but 'a' (rcft) is an intermediate node",
        ),
        (
            {"a": node("concat", "eeg", "ecg"), "b": node("concat", "a", "audio", "image", "text")},
            "graph.b.inputs",
            "an early node takes the features of modalities, but 'a' (concat) is an early node",
        ),
        (
            {"a": node("vote", "eeg", "ecg"), "b": node("vote", "a", "audio", "image", "text")},
            "graph.b.inputs",
            "a late node may only be last, but 'a' (vote) feeds 'b'",
        ),
    ],
)
def test_a_broken_graph_is_refused_with_the_node_and_the_rule(nodes, path, message):
    found = problems(graph_of(**nodes))
    assert [place for place, _ in found] == [path]
    assert message in found[0][1]


def test_all_problems_come_together_and_one_slip_is_one_problem():
    found = problems("""
        dim: -1
        colour: red
        graph:
          physio: {kind: concta, inputs: [eeg, ecg]}
          speech: {kind: rcft, inputs: [audio, txet], layer: 3, heads: 0}
          answer: {kind: vote, inputs: [phsyio, speech, image]}
        """)
    assert [path for path, _ in found] == [
        "dim",
        "colour",
        "graph.physio.kind",
        "graph.speech.inputs",
        "graph.speech.heads",
        "graph.speech.layer",
        "graph.answer.inputs",
    ]


def test_a_kind_beside_a_graph_belongs_to_a_node():
    found = problems("{kind: rcft, graph: {a: {kind: vote, inputs: [eeg]}}}", ["eeg"])
    assert found == [("kind", "no such key beside a graph; it belongs to a node; known: ['dim', 'graph']")]


def test_a_task_may_name_a_node_and_no_other():
    assert read(DESIGN, tasks_from={"valence": "physio"}).end.name == "answer"
    found = problems(DESIGN, tasks_from={"valence": "phsio"})
    assert found[0][0] == "tasks.valence.from"
    assert "no node named 'phsio'; did you mean 'physio'?" in found[0][1]


def test_a_sensor_named_as_the_short_forms_node_is_refused():
    assert "names its node 'fused'" in problems("{kind: vote}", ["fused", "eeg"])[0][1]


def test_a_component_of_another_make_is_refused(monkeypatch):
    monkeypatch.setitem(registry.fusion._classes, "odd", torch.nn.Identity)
    assert "must be a fusion operation" in problems("{kind: odd}")[0][1]


def test_the_message_is_one_line_with_every_problem():
    with pytest.raises(GraphError) as caught:
        read("{kind: rcft, layer: 2, dim: 0}")
    assert str(caught.value).startswith("dim: must be a whole number of at least 1, got 0; layer: no such option")
