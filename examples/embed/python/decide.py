"""Decide with fusionkit's runtime: NumPy, ONNX Runtime and (for text) tokenizers; no torch.

python decide.py model.fusion eeg=eeg.npy audio=audio.npy text="a calm evening"
"""

import sys

import numpy as np

from fusionkit.runtime import Session

path, *given = sys.argv[1:]
session = Session.load(path)
print(session.explain(), file=sys.stderr)
pairs = [pair.split("=", 1) for pair in given]
windows = {name: np.load(value) if value.endswith(".npy") else value for name, value in pairs}
answers = session.predict(windows, units={name: session.sensors[name].unit for name in windows})
for name, task in session.tasks.items():
    for label, value in zip(task.classes or ["value"], answers[name][0], strict=True):
        print(name, label, f"{value:.6f}")
