"""Drawings: everything named, well formed, escaped, and no box over another."""

import io
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fusionkit.fusion.draw import svg, tree
from fusionkit.fusion.graph import Graph, Node

DESIGN = Graph(
    (
        Node("physio", "concat", "early", ("eeg", "ecg"), {}, {"kind": "mlp"}),
        Node("speech", "rcft", "intermediate", ("audio", "text"), {"layers": 3}),
        Node("answer", "vote", "late", ("physio", "speech", "image")),
    ),
    ("eeg", "ecg", "audio", "image", "text"),
    64,
)
SPACE = "{http://www.w3.org/2000/svg}"


def printed(table):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_tree_goes_from_the_end_to_the_sensors():
    lines = printed(tree(DESIGN, {"shape": {"eeg": "(9, 31, 5)"}, "parameters": {"speech": "12,345", "answer": "7"}}))
    assert [line.split()[0] for line in lines] == ["node", "answer", "├─", "│", "│", "├─", "│", "│", "└─"]
    assert re.search(r"^answer +vote +late +7$", lines[1])
    assert re.search(r"^├─ physio +concat, then mlp +early$", lines[2])
    assert re.search(r"^│  ├─ eeg +sensor +\(9, 31, 5\)$", lines[3])
    assert re.search(r"^└─ image +sensor$", lines[8])
    assert lines[1].index("7") == lines[5].index("5")  # numbers end in one column


def test_a_node_that_feeds_two_is_opened_once():
    graph = Graph(
        (
            Node("a", "rcft", "intermediate", ("eeg",)),
            Node("b", "rcft", "intermediate", ("a",)),
            Node("c", "vote", "late", ("a", "b")),
        ),
        ("eeg",),
        64,
    )
    lines = printed(tree(graph))
    assert sum("eeg" in line for line in lines) == 1
    assert "(above)" in lines[-1]


def test_markup_in_a_name_is_text():
    graph = Graph((Node("a", "vote", "late", ("[red]eeg",)),), ("[red]eeg",), 64)
    assert any("[red]eeg" in line for line in printed(tree(graph)))


def boxes(root):
    return {
        g.find(f"{SPACE}title").text.splitlines()[0]: tuple(
            float(g.find(f"{SPACE}rect").get(key)) for key in ("x", "y", "width", "height")
        )
        for g in root.iter(f"{SPACE}g")
    }


def check(graph, root):
    found = boxes(root)
    assert set(found) == {*graph.modalities, *(node.name for node in graph.nodes)}
    width, height = float(root.get("width")), float(root.get("height"))
    for one, (x, y, w, h) in found.items():
        assert x >= 0 and y >= 0 and x + w <= width + 1 and y + h <= height + 1
        for other, (x2, y2, w2, h2) in found.items():
            assert one == other or x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y
    for node in graph.nodes:
        for name in node.inputs:
            assert found[name][0] + found[name][2] < found[node.name][0]


def test_the_svg_names_everything_and_notes_stand_in_their_boxes():
    root = ET.fromstring(svg(DESIGN, {"speech": "12,345 parameters\n8 steps"}))
    check(DESIGN, root)
    speech = next(g for g in root.iter(f"{SPACE}g") if g.find(f"{SPACE}title").text.startswith("speech"))
    lines = [text.text for text in speech.iter(f"{SPACE}text")]
    assert lines == ["speech", "intermediate: rcft", "12,345 parameters", "8 steps"]
    arrows = [path for path in root.iter(f"{SPACE}path") if path.get("fill") != "none"]
    assert len(arrows) == 7


def test_names_and_notes_are_escaped_and_long_ones_cut():
    bad = "<script>alert('&\"\x00\x1b')</script>"
    graph = Graph((Node("a", "vote", "late", (bad,)),), (bad,), 64)
    drawn = svg(graph, {"a": "x" * 200})
    assert "<script>" not in drawn
    ET.fromstring(drawn)
    assert "x" * 43 + "…" in drawn


@st.composite
def wirings(draw):
    """A number of sensors, and the inputs of each node."""
    sensors = draw(st.integers(1, 6))
    inputs = []
    for i in range(draw(st.integers(1, 6))):
        known = [*(f"s{j}" for j in range(sensors)), *(f"n{j}" for j in range(i))]
        inputs.append(draw(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True)))
    return sensors, inputs


@settings(deadline=None, max_examples=60)
@given(wiring=wirings())
def test_no_box_lies_over_another(wiring):
    sensors = tuple(f"s{j}" for j in range(wiring[0]))
    nodes = [Node(f"n{i}", "rcft", "intermediate", tuple(inputs)) for i, inputs in enumerate(wiring[1])]
    loose = [name for name in [*sensors, *(n.name for n in nodes)] if not any(name in n.inputs for n in nodes)]
    graph = Graph((*nodes, Node("end", "vote", "late", tuple(loose))), sensors, 64)
    check(graph, ET.fromstring(svg(graph, {"end": "one\ntwo\nthree"})))
    printed(tree(graph))


@pytest.mark.browser
def test_a_browser_draws_it(tmp_path):
    from PIL import Image

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    (tmp_path / "graph.svg").write_text(svg(DESIGN), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [chromium, *flags, f"--screenshot={tmp_path / 'out.png'}", str(tmp_path / "graph.svg")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(tmp_path / "out.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert {(0xEA, 0xF1, 0xFB), (0xFD, 0xF1, 0xDC), (0xE6, 0xF3, 0xE6), (0xF3, 0xE8, 0xF7)} <= colours
