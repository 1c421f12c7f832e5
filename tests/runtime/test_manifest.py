"""Every key of a manifest is checked, and a message says which one breaks its rule."""

import copy
import json
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import get_args

import pytest

from fusionkit.runtime import BundleError, manifest, read_manifest
from tests.runtime import little

DOCUMENT = Path(__file__).parents[2] / "docs" / "bundle.md"
PARTS = [part for part in vars(manifest).values() if is_dataclass(part)]


def changed(path, value):
    """The little manifest with one key changed; `MISSING` takes it out."""
    described = copy.deepcopy(little.manifest())
    part = described
    *way, last = path
    for key in way:
        part = part[key]
    if value is MISSING:
        del part[last]
    else:
        part[last] = value
    return described


def test_a_manifest_becomes_what_it_says():
    found = read_manifest(little.manifest())
    assert found.sensors["eeg"].shape == (4, None) and found.sensors["eeg"].window.seconds == 0.5
    assert list(found.sensors) == ["eeg", "text"] and found.tasks["target"].conformal["0.99"] is None
    assert found.sensors["eeg"].stream.sample_rate == 200 and found.sensors["text"].stream is None
    assert found.window == manifest.WindowClock(0.5, 0.25) and found.latency_ms.p99 == 0.2


def test_nothing_of_a_manifest_can_be_changed():
    found = read_manifest(little.manifest())
    with pytest.raises(AttributeError):
        found.name = "x"
    with pytest.raises(TypeError):
        found.sensors["x"] = found.sensors["eeg"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "zip", "must be of fusionkit-bundle, but is of something else"),
        (["version"], 1, "version must be 2, which this fusionkit reads, but got 1"),
        (["version"], True, "version must be 2"),
        (["surprise"], 1, "it has no key 'surprise'; known: "),
        (["tasks"], MISSING, "it must have the key 'tasks', but has not"),
        (["tasks"], {}, "tasks must be an object of 1 to 1000 items"),
        (["sensors", "eeg"], [], "sensors.eeg must be an object, but got a JSON list"),
        (["sensors", "eeg", "layout"], "time, channel", r"sensors.eeg.layout must be one of .*, but got 'time, channel'"),
        (["sensors", "eeg", "layout"], "time", "sensors.eeg.shape must be as many numbers as 'time' has axes, but got 2"),
        (["sensors", "eeg", "shape"], [4, -1], r"sensors.eeg.shape\[1\] must be a whole number from 1 to"),
        (["sensors", "eeg", "shape"], [4, 1.0], r"sensors.eeg.shape\[1\] must be a whole number"),
        (["sensors", "eeg", "shape"], [2**14, 2**14], "sensors.eeg.shape must be of at most 134217728 numbers"),
        (["sensors", "eeg", "dtype"], "object", "sensors.eeg.dtype must be one of"),
        (["sensors", "eeg", "dtype"], "int64", "sensors.eeg.dtype must be int64 for tokens and float32 for all else"),
        (["sensors", "eeg", "sample_rate"], 0, "sensors.eeg.sample_rate must be a number above 0"),
        (["sensors", "eeg", "sample_rate"], 10**400, "sensors.eeg.sample_rate must be a number"),
        (["sensors", "eeg", "sample_rate"], float("nan"), "sensors.eeg.sample_rate must be a number"),
        (["sensors", "eeg", "channels"], ["Fz"], "sensors.eeg.channels must be 4 names, but got 1"),
        (["sensors", "eeg", "statistics"], [4], "sensors.eeg.statistics must be a list of 2 to 2 items"),
        (["sensors", "eeg", "chain"], {}, "sensors.eeg.chain must be a list"),
        (["sensors", "eeg", "limits"], [1, 1], "sensors.eeg.limits must be the least number, then the greatest"),
        (["sensors", "eeg", "lacks"], 1, "sensors.eeg.lacks must be true or false, but got 1"),
        (["sensors", "eeg", "normalise", "kind"], "pickle", "sensors.eeg.normalise.kind must be one of"),
        (["sensors", "eeg", "stored", "dtype"], "|O", "sensors.eeg.stored.dtype must be a dtype as NumPy writes it"),
        (["sensors", "eeg", "window", "samples"], 0, "sensors.eeg.window.samples must be a whole number from 1"),
        (["tasks", "target", "classes"], [], "tasks.target.classes must be names for probabilities"),
        (["tasks", "effort", "classes"], ["a"], "tasks.effort.classes must be names for probabilities"),
        (["tasks", "target", "temperature"], 0, "tasks.target.temperature must be a number above 0"),
        (["tasks", "effort", "temperature"], 1.5, "tasks.effort must be of classes to have a temperature"),
        (["tasks", "target", "conformal"], {"2": 0.1}, "a key of tasks.target.conformal must be a number between 0 and 1"),
        (["tasks", "target", "conformal"], {"0.9": 2}, r"tasks.target.conformal.0.9 must be a number from 0 to 1"),
        (["inputs"], ["eeg"], "inputs must be those of its sensors, but 'eeg_present' is not among both"),
        (["inputs"], ["eeg", "eeg"], "inputs must differ by name"),
        (["opset"], 9, "opset must be a whole number from 18"),
        (["versions", "x"], "\x1b[2J", "versions.x must be a name"),
        (["sha256"], {"a": "b"}, "sha256.a must be 64 hexadecimal digits"),
        (["window", "seconds"], "1", "window.seconds must be a number above 0"),
        (["latency_ms"], {"p50": 1}, "latency_ms must have the key 'p99', but has not"),
        (["name"], "two\nlines", r"name must be a name, but got 'two\\nlines'"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_named(path, value, message):
    with pytest.raises(BundleError, match=message) as raised:
        read_manifest(changed(path, value))
    assert str(raised.value).startswith("manifest.json") and len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("hostile", [None, True, -1, 2**70, 1e400, "", "\ud800", "x" * 10**5, [], {}, [[]], {"a": 1}])
def test_no_value_anywhere_is_more_than_refused(hostile):
    """Every key in turn holds it: the manifest is taken or refused in a line, never anything else."""

    def places(part, way=()):
        for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            yield (*way, key)
            yield from places(part[key], (*way, key))

    for way in list(places(little.manifest())):
        try:
            read_manifest(changed(way, hostile))
        except BundleError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 600


def test_a_sensor_called_like_an_input_of_another_is_refused():
    described = little.manifest()
    described["sensors"]["eeg_present"] = described["sensors"]["text"]
    with pytest.raises(BundleError, match="inputs must differ by name, but two are alike"):
        read_manifest(described)


def test_every_key_has_a_check_and_is_described():
    for part in PARTS:
        for one in fields(part):
            assert callable(one.type.__metadata__[0]), (part, one.name)
            assert re.search(rf"^ {{8}}{one.name}: ", part.__doc__, re.MULTILINE), (part, one.name)
            assert get_args(one.type)


def test_the_document_names_every_key():
    text = DOCUMENT.read_text()
    for part in PARTS:
        section = text.split(f"### {part.__name__}\n", 1)
        assert len(section) == 2, part.__name__
        table = section[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
        named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
        assert named == [one.name for one in fields(part)], part.__name__


def test_the_documents_example_is_a_manifest():
    (example,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert read_manifest(json.loads(example)).sensors["eeg"].unit == "V"
