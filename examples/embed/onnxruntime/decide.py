"""Decide with plain ONNX Runtime: zipfile, json and NumPy do the rest, for whoever builds a runtime of their own.

python decide.py model.fusion eeg=eeg.npy audio=audio.npy text=ids.npy     # token ids, int64

Nothing is checked here: give it bundles of your own alone (docs/bundle.md says what fusionkit's runtime refuses).
"""

import json
import sys
import zipfile

import numpy as np
import onnxruntime

path, *given = sys.argv[1:]
with zipfile.ZipFile(path) as archive:
    manifest = json.loads(archive.read("manifest.json"))
    graph = onnxruntime.InferenceSession(archive.read("model.onnx"), providers=["CPUExecutionProvider"])
windows = {name: np.load(file) for name, file in (pair.split("=", 1) for pair in given)}
feed = {}
for name, sensor in manifest["sensors"].items():
    blank = np.zeros([size or sensor["window"]["samples"] for size in sensor["shape"]])  # of a sensor that is absent
    feed[name] = windows.get(name, blank).astype(sensor["dtype"])[None]
    feed[f"{name}_present"] = np.array([name in windows])
    feed[f"{name}_length"] = np.array([feed[name].shape[-1] if name in windows else 0])
    if sensor["statistics"]:  # of the wearer; none are known here
        feed[f"{name}_shift"] = np.zeros([1, *sensor["statistics"]], np.float32)
        feed[f"{name}_scale"] = np.ones([1, *sensor["statistics"]], np.float32)
answers = graph.run(list(manifest["tasks"]), {name: feed[name] for name in manifest["inputs"]})
for (name, task), answer in zip(manifest["tasks"].items(), answers, strict=True):
    for label, value in zip(task["classes"] or ["value"], answer[0], strict=True):
        print(name, label, f"{value:.6f}")
