"""A bundle small enough to open in milliseconds, its graph written by hand, and what it must answer, in NumPy."""

import hashlib
import io
import json
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from fusionkit.runtime.manifest import FORMAT, VERSION

CHANNELS = ("Fz", "Cz", "Pz", "Oz")
WEIGHT = np.arange(8, dtype=np.float32).reshape(4, 2) / 8 - 0.4
SENTENCES = ["a calm evening by the lake", "a loud morning", "by the calm lake", "Grüße aus Köln"]


def tokenizer():
    """As `fusionkit.modalities.text` writes it."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=280, special_tokens=["[pad]", "[drop]"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    made.enable_truncation(12)
    document = json.loads(made.to_str())
    document["added_tokens"] = []
    return document


TOKENIZER = tokenizer()
SIZE = len(TOKENIZER["model"]["vocab"])
TABLE = np.random.default_rng(0).normal(size=(SIZE, 2)).astype(np.float32)


def graph():
    """EEG's mean over its samples, normalised, and the sum of tokens' rows: two classes, and a value."""
    nodes = []

    def node(kind, inputs, **attributes):
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def inside(values, length, axis):
        size = node("Gather", [node("Shape", [values]), f"at{axis}"])
        place = node("Range", ["zero", size, "one"])
        return node("Less", [node("Unsqueeze", [place, "axis0"]), node("Unsqueeze", [length, "axis1"])])

    clean = node("Where", [node("IsNaN", ["eeg"]), "nought", "eeg"])
    real = node("Unsqueeze", [inside("eeg", "eeg_length", 2), "axis1"])
    total = node("ReduceSum", [node("Where", [real, clean, "nought"]), "axis2"], keepdims=0)
    count = node("Cast", [node("Max", ["eeg_length", "one"])], to=TensorProto.FLOAT)
    mean = node("Mul", [node("Div", [total, node("Unsqueeze", [count, "axis1"])]), "micro"])
    shift, scale = (node("Squeeze", [f"eeg_{part}", "axis2"]) for part in ("shift", "scale"))
    normal = node("Div", [node("Sub", [mean, shift]), scale])
    seen = node("Where", [node("Unsqueeze", ["eeg_present", "axis1"]), normal, "nought"])
    rows = node("Gather", ["table", "text"])
    read = node("Unsqueeze", [inside("text", "text_length", 1), "axis2"])
    words = node("ReduceSum", [node("Where", [read, rows, "nought"]), "axis1"], keepdims=0)
    said = node("Where", [node("Unsqueeze", ["text_present", "axis1"]), words, "nought"])
    both = node("Add", [node("MatMul", [seen, "weight"]), said])
    nodes.append(helper.make_node("Softmax", [both], ["target"], axis=-1))
    nodes.append(helper.make_node("ReduceMean", [both, "axis1"], ["effort"], keepdims=1))
    whole = {"zero": 0, "one": 1, "at1": 1, "at2": 2, "axis0": [0], "axis1": [1], "axis2": [2]}
    constants = {name: np.array(value, np.int64) for name, value in whole.items()}
    constants |= {"nought": np.float32(0), "micro": np.float32(1e6), "weight": WEIGHT, "table": TABLE}
    value = helper.make_tensor_value_info
    truth, number, real_ = TensorProto.BOOL, TensorProto.INT64, TensorProto.FLOAT
    inputs = [
        value("eeg", real_, ["batch", 4, "time"]),
        value("eeg_present", truth, ["batch"]),
        value("eeg_length", number, ["batch"]),
        value("eeg_shift", real_, ["batch", 4, 1]),
        value("eeg_scale", real_, ["batch", 4, 1]),
        value("text", number, ["batch", "token"]),
        value("text_present", truth, ["batch"]),
        value("text_length", number, ["batch"]),
    ]
    outputs = [value("target", real_, ["batch", 2]), value("effort", real_, ["batch", 1])]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    made = helper.make_graph(nodes, "little", inputs, outputs, held)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def answer(eeg, length, present, shift, scale, ids, real, said):
    """The same, row by row."""
    found = []
    for row in range(len(eeg)):
        logits = np.zeros(2)
        if present[row]:
            part = np.nan_to_num(eeg[row, :, : length[row]].astype(np.float64), nan=0.0)
            mean = part.sum(1) / max(1, length[row]) * 1e6
            logits += ((mean - shift[row, :, 0]) / scale[row, :, 0]) @ WEIGHT
        if said[row]:
            logits += TABLE[ids[row, : real[row]]].sum(0)
        raised = np.exp(logits - logits.max())
        found.append((raised / raised.sum(), [logits.mean()]))
    return {"target": np.array([a for a, _ in found]), "effort": np.array([b for _, b in found])}


def sensor(**changed):
    """What a manifest says of the EEG."""
    stored = {"sample_rate": 100.0, "channels": list(CHANNELS), "unit": "V", "item": [4], "dtype": "<f4", "longest": 50}
    normalise = {"kind": "calibration", "seconds": 10, "recording": None, "over": None, "update": True}
    said = {
        "kind": "eeg", "layout": "channel, time", "shape": [4, None], "dtype": "float32", "longest": 50,
        "sample_rate": 100.0, "channels": list(CHANNELS), "unit": "V", "align": None, "normalise": normalise,
        "statistics": [4, 1], "chain": [{"step": "resample", "up": 1, "down": 2}], "stored": stored,
        "window": {"samples": 50, "seconds": 0.5},
        "stream": {"sample_rate": 200.0, "channels": list(CHANNELS), "unit": "V"}, "limits": None, "lacks": True,
    }  # fmt: skip
    return said | changed


def manifest():
    """As plain data, without hashes."""
    words = {
        "kind": "text", "layout": "token", "shape": [None], "dtype": "int64", "longest": 9, "sample_rate": None,
        "channels": [], "unit": "", "align": None, "normalise": {"kind": "training"}, "statistics": None, "chain": [],
        "stored": {"sample_rate": None, "channels": [], "unit": "", "item": [], "dtype": "|u1", "longest": 9},
        "window": {"samples": 12, "seconds": None}, "stream": None, "limits": [0, SIZE - 1], "lacks": False,
    }  # fmt: skip
    target = {
        "kind": "classification", "classes": ["calm", "loud"], "outcome": "probabilities",
        "state": {"classes": ["calm", "loud"], "counts": [3, 4]}, "temperature": 2.0,
        "conformal": {"0.8": 0.3, "0.9": 0.6, "0.99": None},
    }  # fmt: skip
    effort = {
        "kind": "regression",
        "classes": [],
        "outcome": "value",
        "state": {"classes": [], "mean": 0, "deviation": 1},
    }
    return {
        "format": FORMAT, "version": VERSION, "name": "little", "sensors": {"eeg": sensor(), "text": words},
        "tasks": {"target": target, "effort": effort},
        "inputs": [node.name for node in graph().graph.input], "opset": 20,
        "versions": {"fusionkit": "0.1.0", "onnx": "1.20"}, "window": {"seconds": 0.5, "step": 0.25},
        "parameters": 8 + 2 * SIZE, "macs": 1000, "latency_ms": {"p50": 0.1, "p99": 0.2},
    }  # fmt: skip


def arrays():
    """Reference inputs and answers."""
    rng = np.random.default_rng(1)
    eeg, ids = rng.normal(0, 1e-5, (2, 4, 50)).astype(np.float32), np.array([[5, 6, 7], [8, 9, 1]])
    one = np.ones((2, 4, 1))
    true = answer(eeg, [50, 50], [1, 1], 0 * one, one, ids, [3, 3], [1, 1])
    return {"input_eeg": eeg, "input_text": ids, **{f"output_{name}": value for name, value in true.items()}}


def files():
    """All files but the manifest."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays())
    return {
        "model.onnx": graph().SerializeToString(),
        "recipe.yaml": b"name: little\n",
        "files/text/tokenizer.json": json.dumps(TOKENIZER).encode(),
        "reference.npz": buffer.getvalue(),
    }


def pack(described, content, *, hashed=True, packing=zipfile.ZIP_DEFLATED):
    """A bundle's bytes, with right hashes unless they are given."""
    if hashed:
        described = described | {"sha256": {name: hashlib.sha256(one).hexdigest() for name, one in content.items()}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, one in {**content, "manifest.json": json.dumps(described).encode()}.items():
            archive.writestr(name, one)
    return buffer.getvalue()
