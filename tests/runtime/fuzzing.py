"""Mutated bundles, one by one, in a process of their own: ``python fuzzing.py BUNDLE SCRATCH FIRST LAST``.

Every mutation is made of its number alone. A bundle must be refused in one line, or be answered with finite numbers;
meanwhile Python opens no other file, imports nothing, starts nothing. What ends otherwise is printed, and so is the number
of what was accepted and refused.
"""

import faulthandler
import io
import json
import random
import resource
import struct
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import fusionkit.runtime.graph
from fusionkit.runtime import BundleError, Session

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.runtime import little

KINDS = {
    "container": 30, "directory": 6, "manifest": 27, "manifest bytes": 5, "vocabulary": 8, "vocabulary bytes": 4,
    "reference": 6, "graph bytes": 7, "graph": 7,
}  # fmt: skip
"""Of 100 mutations."""
NUMBERS = [0, -1, 1, 2, 3, 5, 50, 100, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63), 10**6, 10**9, -2, -5]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, 1e308, -1e-300, "", "x", "eeg", "../../etc/passwd", "\x1b[2J",
    "\ud800", "a\nb", "x" * 5000, [], {}, [[]], [None], {"": 0}, {"a": {"b": [1]}}, [[[[[[[[[[1]]]]]]]]]], [0] * 200,
]  # fmt: skip
OPERATORS = [
    "Loop", "If", "Scan", "LSTM", "GRU", "RNN", "Resize", "Einsum", "TopK", "NonZero", "ScatterND",
    "ScatterElements", "GatherElements", "GatherND", "OneHot", "Tile", "NonMaxSuppression", "ConvTranspose",
    "Conv", "MaxPool", "Compress", "Unique", "CumSum", "Trilu", "Col2Im", "GridSample", "DFT", "EyeLike",
    "Expand", "Pad", "Slice", "ConstantOfShape", "Range", "Reshape", "Split", "Concat", "SequenceAt",
    "Identity", "Cast", "Gather", "StringConcat", "QuantizeLinear", "MatMulInteger",
]  # fmt: skip
WATCHED = ("open", "import", "os.", "socket.", "subprocess.", "shutil.", "exec", "pickle.", "ctypes.", "urllib.")


def spoil(rng: random.Random, content: bytes) -> bytes:
    """Some bits, a cut, a piece of itself elsewhere, a piece less or more."""
    spoiled = bytearray(content)
    kind = rng.randrange(8)
    place, other = (rng.randrange(len(spoiled)) for _ in range(2))
    size = rng.randrange(1, 64)
    if kind < 4:
        for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
            spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    elif kind == 4:
        del spoiled[place:]
    elif kind == 5:
        spoiled[place : place + size] = spoiled[other : other + size]
    elif kind == 6:
        del spoiled[place : place + size]
    else:
        spoiled[place:place] = rng.randbytes(size)
    return bytes(spoiled)


def twist(rng: random.Random, tree: Any) -> Any:
    """JSON with some of its parts replaced, gone, doubled or under another name."""
    places: list[tuple[Any, Any]] = []

    def visit(part: Any) -> None:
        for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            visit(part[key])

    tree = json.loads(json.dumps(tree))
    visit(tree)
    if rng.random() < 0.01:
        return rng.choice(VALUES)
    for _ in range(rng.choice([1, 1, 1, 2, 6])):
        part, key = rng.choice(places)
        kind = rng.randrange(6)
        if key not in (part if isinstance(part, dict) else range(len(part))):
            continue
        if kind < 3:
            part[key] = rng.choice(VALUES)
        elif kind == 3:
            del part[key]
        elif kind == 4:
            whose, which = rng.choice(places)
            found = whose.get(which) if isinstance(whose, dict) else (whose[which] if which < len(whose) else None)
            part[key] = json.loads(json.dumps(found))
        elif isinstance(part, dict):
            part[rng.choice(["__class__", "eeg", "x", "../y", "eeg_present", ""])] = part[key]
        else:
            part.insert(key, rng.choice(VALUES))
    return tree


def bend(rng: random.Random, content: bytes) -> bytes:
    """A graph with other operators, wires, attributes, shapes, weights."""
    model = onnx.load_from_string(content)
    graph = model.graph
    names = [name for one in graph.node for name in (*one.input, *one.output)] + [one.name for one in graph.initializer]
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        kind, one, tensor = rng.randrange(14), rng.choice(graph.node), rng.choice(graph.initializer)
        if kind == 0:
            one.op_type = rng.choice(OPERATORS)
        elif kind == 1 and one.input:
            one.input[rng.randrange(len(one.input))] = rng.choice([*names, ""])
        elif kind == 2:
            one.output[0] = rng.choice(names)
        elif kind == 3:
            one.attribute.append(
                onnx.helper.make_attribute(rng.choice(["axis", "to", "keepdims"]), rng.choice(NUMBERS))
            )
        elif kind == 4 and one.attribute:
            del one.attribute[0]
        elif kind == 5:
            one.domain = rng.choice(["com.microsoft", "ai.onnx.ml", "evil"])
        elif kind == 6:
            del tensor.dims[:]
            tensor.dims.extend(rng.choices(NUMBERS, k=rng.randrange(4)))
        elif kind == 7:
            tensor.data_type = rng.randrange(24)
        elif kind < 10:
            if tensor.data_location or tensor.data_type not in (1, 7) or tensor.ByteSize() > 10**6:
                continue
            try:
                array = onnx.numpy_helper.to_array(tensor).copy()
            except ValueError:  # its shape was bent before
                continue
            if array.size and array.dtype.kind == "i":
                array.reshape(-1)[rng.randrange(array.size)] = rng.choice(NUMBERS)
            elif array.size:
                array.reshape(-1)[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, 1e38, 0])
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        elif kind == 10:
            tensor.data_location = 1
            for key, value in (("location", rng.choice(["/etc/passwd", "recipe.yaml"])), ("length", "16")):
                tensor.external_data.add(key=key, value=value)
        elif kind == 11:
            model.opset_import[0].version = rng.choice([1, 7, 17, 19, 21, 26, 99])
        elif kind == 12:
            part = rng.choice([*graph.input, *graph.output])
            part.type.tensor_type.elem_type = rng.randrange(1, 12)
        else:
            part = rng.choice([*graph.input, *graph.output])
            if part.type.tensor_type.shape.dim:
                part.type.tensor_type.shape.dim[-1].dim_value = rng.choice(NUMBERS)
    return bytes(model.SerializeToString())


def misfile(rng: random.Random, content: bytes) -> bytes:
    """An archive whose directory lies about sizes, or whose names lead elsewhere."""
    if rng.random() < 0.5:
        spoiled, start = bytearray(content), content.index(b"PK\x01\x02")
        while spoiled[start : start + 4] == b"PK\x01\x02":
            name, extra, comment = struct.unpack_from("<HHH", spoiled, start + 28)
            if rng.random() < 0.4:
                place, width = rng.choice([(10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (8, "<H"), (42, "<I")])
                most = 2 ** (8 * struct.calcsize(width)) - 1
                struct.pack_into(width, spoiled, start + place, rng.choice([0, 1, 8, 99, most, rng.randrange(most)]))
            start += 46 + name + extra + comment
        return bytes(spoiled)
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        name = rng.choice(["../x", "/etc/x", "a//b", "C:\\x", "MODEL.onnx", "a/", "\u202ex", "x" * 300, "a/../b", "."])
        archive.writestr(name, b"0" * rng.choice([0, 10, 10**6]))
    return buffer.getvalue()


def mutation(number: int, described: dict[str, Any], content: dict[str, bytes]) -> tuple[str, bytes]:
    """What it is called, and a bundle."""
    rng = random.Random(number)
    (kind,) = rng.choices(list(KINDS), weights=list(KINDS.values()))
    packing = zipfile.ZIP_STORED if rng.random() < 0.5 else zipfile.ZIP_DEFLATED
    content = dict(content)
    if kind in ("container", "directory"):
        whole = little.pack(described, content, packing=packing)
        return kind, (spoil if kind == "container" else misfile)(rng, whole)
    if kind == "manifest":
        twisted = twist(rng, described)
        return kind, little.pack(twisted, content, packing=packing, hashed=isinstance(twisted, dict))
    if kind == "manifest bytes":
        whole = zipfile.ZipFile(io.BytesIO(little.pack(described, content)))
        parts = {name: whole.read(name) for name in whole.namelist()}
        parts["manifest.json"] = spoil(rng, parts["manifest.json"])
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part)
        return kind, buffer.getvalue()
    graphs = [name for name in content if name.endswith(".onnx")]
    file = {"v": "files/text/tokenizer.json", "r": "reference.npz", "g": rng.choice(graphs)}[kind[0]]
    if kind == "vocabulary":
        content[file] = json.dumps(twist(rng, json.loads(content[file]))).encode("utf-8", "surrogatepass")
    elif kind == "graph":
        content[file] = bend(rng, content[file])
    else:
        content[file] = spoil(rng, content[file])
    return kind, little.pack(described, content, packing=packing)


def main(bundle: str, scratch: str, first: int, last: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
    fusionkit.runtime.graph.LIMIT_BYTES = 2**28  # what is blown up shall fail here too, not fill the machine
    with zipfile.ZipFile(bundle) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(content.pop("manifest.json"))
    described.pop("sha256")
    target = Path(scratch) / f"{first}.fusion"
    session = Session.load(bundle)
    session.check()
    rng = np.random.default_rng(0)
    statistics = {
        name: (np.zeros(sensor.statistics), np.ones(sensor.statistics))
        for name, sensor in session.sensors.items()
        if sensor.statistics
    }
    windows = {
        name: "by the calm lake"
        if sensor.layout == "token"
        else rng.normal(0, 1e-5, [one or 50 for one in sensor.shape])
        for name, sensor in session.sensors.items()
    }
    session.predict(windows, statistics=statistics)
    session.chain(next(iter(session.sensors)))
    seen: list[tuple[str, object]] = []
    counts: Counter[str] = Counter()
    watching = False

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event.startswith(WATCHED) and str(arguments[:1]) != str((str(target),)):
            seen.append((event, arguments[:1]))

    sys.addaudithook(hear)
    failed = 0
    for number in range(first, last):
        kind, spoiled = mutation(number, described, content)
        target.write_bytes(spoiled)
        print(f"\r{number} {kind}", end=" ", flush=True)
        faulthandler.dump_traceback_later(60, exit=True)
        watching = True
        try:
            opened = Session.load(str(target))
            opened.explain()
            opened.predict({name: windows[name] for name in opened.sensors if name in windows}, statistics=statistics)
            opened.check()
            for name, sensor in opened.sensors.items():
                if sensor.chain is not None:
                    opened.chain(name)
            outcome = "answered"
        except BundleError as error:
            outcome = "refused"
            if len(str(error).splitlines()) != 1 or len(str(error)) > 1000:
                failed += 1
                print(f"\n{number} {kind}: a message must be one line, but is {str(error)[:300]!r}")
        except BaseException as error:  # noqa: BLE001 - a panic of a library in Rust is no Exception
            failed += 1
            outcome = "failed"
            print(f"\n{number} {kind}: {type(error).__name__}: {str(error)[:300]}")
        finally:
            watching = False
            faulthandler.cancel_dump_traceback_later()
        if seen:
            failed += 1
            print(f"\n{number} {kind}: reached out: {seen[:3]}")
            seen.clear()
        counts[f"{kind} {outcome}"] += 1
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    print(f"\n{json.dumps({'failed': failed, 'peak_mb': peak, **dict(sorted(counts.items()))})}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
