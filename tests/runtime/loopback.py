"""A bundle made by hand, and LSL confined to this machine and this process's tests: for streams in several processes."""

import atexit
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import uuid
import zipfile
from pathlib import Path

import numpy as np

CFG = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
AddressesOverride = {127.0.0.1}
TTLOverride = 0
ListenAddress = 127.0.0.1
[lab]
KnownPeers = {127.0.0.1}
SessionID = fk-%s
[log]
level = -3
"""

EEG_RATE, AUDIO_RATE = 100.0, 1000.0
EEG_CHANNELS = ("Fz", "Cz", "Pz")
RECIPE = """\
name: made
data: {kind: manifest, path: t.csv}
modalities: {eeg: {kind: eeg}, audio: {kind: audio, sample_rate: 1000}}
fusion: {kind: vote}
tasks: {state: {kind: classification}}
"""
SOS = [[0.2, 0.2, 0.0, 1.0, -0.6, 0.0]]


@functools.cache
def environment():
    """For this process, whose liblsl reads its settings once, and for those it starts: they hear one another alone."""
    path = Path(tempfile.mkdtemp()) / "lsl_api.cfg"
    path.write_text(CFG % uuid.uuid4().hex)
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    os.environ["LSLAPICFG"] = str(path)
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def sensor(kind, rate, samples, channels, unit, layout, chain):
    """What a manifest says of one sensor."""
    shape = [None] if layout == "time" else [len(channels), None]
    stored = {"sample_rate": rate, "channels": list(channels), "unit": unit, "item": [len(channels) or 1]}
    return {
        "kind": kind,
        "layout": layout,
        "shape": shape,
        "dtype": "float32",
        "longest": samples,
        "sample_rate": rate,
        "channels": list(channels),
        "unit": unit,
        "align": None,
        "normalise": {"kind": "none"},
        "statistics": None,
        "chain": chain,
        "stored": {**stored, "dtype": "<f4", "longest": samples},
        "window": {"samples": samples, "seconds": samples / rate},
        "stream": {"sample_rate": rate, "channels": list(channels), "unit": unit},
    }


def write_bundle(
    path, step=0.1, seconds=0.5, channels=EEG_CHANNELS, eeg_rate=EEG_RATE, audio_rate=AUDIO_RATE, align=None
):
    """EEG and sound against each other by their power; the graph is written down node by node."""
    from onnx import TensorProto, helper, numpy_helper

    scale = {"eeg": np.float32(1e10), "audio": np.float32(10)}
    axes = {"eeg": ["batch", len(channels), "eeg_time"], "audio": ["batch", "audio_time"]}
    nodes, inputs, weights = [], [], []
    for name in ("eeg", "audio"):
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes[name]))
        inputs.append(helper.make_tensor_value_info(f"{name}_present", TensorProto.BOOL, ["batch"]))
        weights.append(numpy_helper.from_array(np.arange(1, len(axes[name])), f"{name}_axes"))
        weights.append(numpy_helper.from_array(scale[name], f"{name}_scale"))
        nodes += [
            helper.make_node("Mul", [name, name], [f"{name}_square"]),
            helper.make_node("ReduceMean", [f"{name}_square", f"{name}_axes"], [f"{name}_power"], keepdims=0),
            helper.make_node("Cast", [f"{name}_present"], [f"{name}_here"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_power", f"{name}_here"], [f"{name}_real"]),
            helper.make_node("Mul", [f"{name}_real", f"{name}_scale"], [f"{name}_weighed"]),
            helper.make_node("Unsqueeze", [f"{name}_weighed", "one"], [f"{name}_column"]),
        ]
    weights.append(numpy_helper.from_array(np.array([1]), "one"))
    nodes.append(helper.make_node("Concat", ["eeg_column", "audio_column"], ["logits"], axis=1))
    nodes.append(helper.make_node("Softmax", ["logits"], ["state"], axis=1))
    output = helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "made", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    chain = [{"step": "sos", "sos": SOS}]
    manifest = {
        "format": "fusionkit-bundle",
        "version": 2,
        "name": "made",
        "sensors": {
            "eeg": sensor("eeg", eeg_rate, round(seconds * eeg_rate), channels, "V", "channel, time", chain),
            "audio": sensor("audio", audio_rate, round(seconds * audio_rate), (), "", "time", []),
        },
        "tasks": {
            "state": {"kind": "classification", "classes": ["calm", "tense"], "outcome": "probabilities", "state": {}}
        },
        "inputs": [one.name for one in inputs],
        "opset": 20,
        "versions": {"fusionkit": "0"},
        "window": {"seconds": seconds, "step": step},
    }
    if align is not None:
        segment = {"kind": "euclidean", "over": "subject", "seconds": align, "recording": None}
        manifest["sensors"]["eeg"]["align"] = segment | {"samples": round(seconds * eeg_rate), "scale": 1e-5}
    files = {"model.onnx": model.SerializeToString(), "recipe.yaml": RECIPE.encode()}
    manifest["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            archive.writestr(name, content)
    return path


OUTLET = """
    import json, sys, time
    import numpy as np
    import pylsl
    told = json.loads(sys.argv[1])
    kind = told.get("format", "float32")
    info = pylsl.StreamInfo(told["name"], told["type"], told["channels"], told["rate"], kind, told["source_id"])
    channels = info.desc().append_child("channels")
    for label in told["labels"]:
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        if told["unit"]:
            channel.append_child_value("unit", told["unit"])
    chunk = max(1, round(told["chunk"] * told["rate"]))
    outlet = pylsl.StreamOutlet(info, chunk)
    generator = np.random.default_rng(told["seed"])
    print("on", flush=True)
    began, sent = pylsl.local_clock(), 0
    while pylsl.local_clock() - began < 120:
        values = told["size"] * generator.normal(size=(chunk, told["channels"]))
        values[:, told.get("silent", [])] = 0
        last = began + (sent + chunk - 1) / told["rate"]
        wait = last - pylsl.local_clock()
        if wait > 0:
            time.sleep(wait)
        values = values.astype(kind if kind != "double64" else "f8")
        if "trace" in told:
            with open(told["trace"], "a") as file:
                print(pylsl.local_clock(), last, file=file)
        outlet.push_chunk(values, last)
        sent += chunk
"""
"""A process that plays an amplifier: noise in chunks, its timestamps on an even clock."""


def start_outlet(env, **told):
    """Start an amplifier of another process; it is on air when this returns."""
    told = {"labels": [], "unit": "", "chunk": 0.02, "seed": 0, "size": 1.0, "source_id": "", **told}
    words = [sys.executable, "-c", textwrap.dedent(OUTLET), json.dumps(told)]
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "on\n"
    return process


def end(*processes):
    """Kill processes, and wait until they are gone."""
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
