"""XDF files: what we write pyxdf reads, and what others write we read as pyxdf does."""

import logging
import os
import signal
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.runtime import BundleError
from fusionkit.runtime.description import Channel, Description, read_description, write_description
from fusionkit.runtime.log import read_change
from fusionkit.runtime.xdf import MARK, FileClock, XdfFile, XdfWriter

pyxdf = pytest.importorskip("pyxdf")

EEG = Description(
    "amp",
    "EEG",
    (Channel("Fz", "microvolts", "EEG"), Channel("Cz <&> ä", "microvolts", "EEG")),
    100.0,
    "float32",
    "serial-1",
    about=(("manufacturer", "nobody & sons"),),
)
WORDS = Description("words", "Markers", (Channel("text"),), None, "string")


def size(number):
    if number < 256:
        return bytes([1, number])
    return b"\x04" + struct.pack("<I", number) if number < 2**32 else b"\x08" + struct.pack("<Q", number)


def chunk(tag, content):
    """A chunk as the specification says it."""
    return size(len(content) + 2) + struct.pack("<H", tag) + content


def samples(number, rows):
    """Samples as LabRecorder writes them: times where given, values packed."""
    content = struct.pack("<I", number) + size(len(rows))
    for stamp, values in rows:
        content += b"\x00" if stamp is None else b"\x08" + struct.pack("<d", stamp)
        content += values
    return chunk(3, content)


def foreign(*chunks):
    return b"XDF:" + chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>') + b"".join(chunks)


def header(number, description):
    return chunk(2, struct.pack("<I", number) + write_description(description))


def load(path, **options):
    """What pyxdf reads, without a word of complaint."""
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage()) if record.levelno >= logging.WARNING else None
    logging.getLogger("pyxdf").addHandler(handler)
    try:
        streams, head = pyxdf.load_xdf(path, **{"dejitter_timestamps": False, **options})
    finally:
        logging.getLogger("pyxdf").removeHandler(handler)
    return {stream["info"]["name"][0]: stream for stream in streams}, head, heard


@pytest.mark.parametrize("kind", ["float32", "double64", "int8", "int16", "int32", "int64"])
def test_pyxdf_reads_what_we_write(tmp_path, kind):
    generator = np.random.default_rng(0)
    values = (100 * generator.normal(size=(700, 2))).astype({"double64": "f8"}.get(kind, kind))
    stamps = 5000 + np.arange(700) / 100
    described = Description("amp", "EEG", EEG.channels, 100.0, kind, "serial-1", about=EEG.about)
    with XdfWriter(tmp_path / "a.xdf") as log:
        eeg, words = log.add(described), log.add(WORDS)
        for start in range(0, 700, 300):  # chunks of more than 255 samples have lengths of four bytes
            log.write(eeg, values[start : start + 300], stamps[start : start + 300])
            log.write(words, [[f"at {start} ö"]], stamps[start : start + 1])
    streams, head, heard = load(tmp_path / "a.xdf")
    assert not heard and head["info"]["version"] == ["1.0"]
    np.testing.assert_array_equal(streams["amp"]["time_series"], values)
    np.testing.assert_array_equal(streams["amp"]["time_stamps"], stamps)
    info = streams["amp"]["info"]
    assert [c["label"][0] for c in info["desc"][0]["channels"][0]["channel"]] == ["Fz", "Cz <&> ä"]
    assert info["desc"][0]["manufacturer"] == ["nobody & sons"]
    assert streams["amp"]["footer"]["info"]["sample_count"] == ["700"]
    assert streams["words"]["time_series"] == [["at 0 ö"], ["at 300 ö"], ["at 600 ö"]]
    smooth, _, heard = load(tmp_path / "a.xdf", dejitter_timestamps=True)
    assert not heard
    np.testing.assert_allclose(smooth["amp"]["time_stamps"], stamps, atol=1e-6)


def test_we_read_what_we_write_in_the_order_of_writing(tmp_path):
    with XdfWriter(tmp_path / "a.xdf") as log:
        eeg, words = log.add(EEG), log.add(WORDS)
        for k in range(4):
            log.write(eeg, np.full((3, 2), k), 10 * k + np.arange(3) / 100)
            log.write(words, [[f"w{k}"]], [10 * k + 5])
    found = XdfFile(tmp_path / "a.xdf")
    assert found.ours and found.whole
    assert found.streams[eeg].description == EEG and found.streams[words].description == WORDS
    seen = [(number, values[0][0], stamps[0]) for number, values, stamps in found.in_order()]
    assert seen == [entry for k in range(4) for entry in ((eeg, k, 10 * k), (words, f"w{k}", 10 * k + 5))]


def test_times_that_are_left_out_follow_at_the_rate(tmp_path):
    rows = [(7.0, 0), *((None, k) for k in range(1, 6)), (9.0, 6), (None, 7)]
    one = Description("x", "EEG", (Channel("a"),), 100.0, "int16")
    parts = [samples(1, [(at, struct.pack("<h", k)) for at, k in rows[start:stop]]) for start, stop in ((0, 6), (6, 8))]
    mixed = samples(1, [(at, struct.pack("<h", k)) for at, k in ((None, 8), (11.0, 9), (None, 10))])
    bare = samples(1, [(None, struct.pack("<h", k)) for k in (11, 12)])
    (tmp_path / "a.xdf").write_bytes(foreign(header(1, one), *parts, mixed, bare))
    found = list(XdfFile(tmp_path / "a.xdf").streams[1].chunks())
    streams, *_ = load(tmp_path / "a.xdf")
    np.testing.assert_array_equal(np.concatenate([v for v, _ in found])[:, 0], np.arange(13))
    np.testing.assert_allclose(np.concatenate([t for _, t in found]), streams["x"]["time_stamps"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[-1][1], [11.02, 11.03])


def test_clock_offsets_are_taken_as_pyxdf_does(tmp_path):
    """A remote clock that is 40 s behind and runs 50 parts in a million fast, with one packet that came late."""
    generator = np.random.default_rng(1)
    at = np.arange(0, 300, 5.0)
    offset = 40 - 5e-5 * at + generator.normal(0, 1e-5, len(at))
    offset[17] += 0.02
    clocks = [chunk(4, struct.pack("<Idd", 1, t, o)) for t, o in zip(at, offset, strict=True)]
    rows = [(float(t), struct.pack("<2f", 1, 2)) for t in np.arange(0, 300, 0.5)]
    (tmp_path / "a.xdf").write_bytes(foreign(header(1, EEG), samples(1, rows), *clocks))
    ours = np.concatenate([t for _, t in XdfFile(tmp_path / "a.xdf").streams[1].chunks()])
    true = np.arange(0, 300, 0.5) * (1 - 5e-5) + 40
    np.testing.assert_allclose(ours, true, atol=2e-5)
    streams, *_ = load(tmp_path / "a.xdf")
    np.testing.assert_allclose(ours, streams["amp"]["time_stamps"], atol=1e-4)


def test_a_machine_that_was_restarted_has_a_clock_of_its_own():
    clock = FileClock([(0.0, 10.0), (5.0, 10.0), (6.0, -300.0), (11.0, -300.0)])
    np.testing.assert_allclose(clock(np.array([-1.0, 4.0, 7.0, 90.0])), [9.0, 14.0, -293.0, -210.0])
    assert FileClock([])(np.array([3.0])) == 3.0
    assert FileClock([(3.0, 1.5)])(np.array([3.0])) == 4.5


@pytest.mark.parametrize("name", ["minimal", "clock_resets"])
def test_real_recordings_are_read_as_pyxdf_does(real_data, name):
    """Also one whose machine was restarted, so that its clock begins anew."""
    path = real_data / "eeg_formats" / "xdf" / f"{name}.xdf"
    if not path.is_file():
        pytest.skip(f"no {path}")
    ours = XdfFile(path)
    for theirs in pyxdf.load_xdf(path, dejitter_timestamps=False)[0]:
        found = list(ours.streams[theirs["info"]["stream_id"]].chunks())
        np.testing.assert_allclose(np.concatenate([t for _, t in found]), theirs["time_stamps"], rtol=0, atol=2e-4)
        if theirs["info"]["channel_format"][0] == "string":
            assert [row for values, _ in found for row in values] == theirs["time_series"]
        else:
            np.testing.assert_array_equal(np.concatenate([values for values, _ in found]), theirs["time_series"])


WRITE = """
    import sys, time
    import numpy as np
    from pathlib import Path
    from fusionkit.runtime.description import Channel, Description
    from fusionkit.runtime.xdf import XdfWriter
    log = XdfWriter(Path(sys.argv[1]))
    eeg = log.add(Description("amp", "EEG", (Channel("a"),) * 8, 100.0))
    print("on", flush=True)
    for k in range(10**9):
        log.write(eeg, np.full((5, 8), k), (5 * k + np.arange(5)) / 100)
        if k == 200: print("far", flush=True)
"""


def test_a_kill_leaves_a_file_that_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.xdf"
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITE), path], stdout=subprocess.PIPE, text=True)
    assert [writer.stdout.readline(), writer.stdout.readline()] == ["on\n", "far\n"]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    found = XdfFile(path)
    values = np.concatenate([values[:, 0] for values, _ in found.streams[1].chunks()])
    assert len(values) >= 1000
    np.testing.assert_array_equal(values, np.repeat(np.arange(len(values) // 5), 5))
    streams, _, heard = load(path)
    assert len(streams["amp"]["time_stamps"]) == len(values) and not heard


def test_a_file_that_was_cut_is_read_to_the_last_whole_chunk(tmp_path):
    with XdfWriter(tmp_path / "a.xdf") as log:
        eeg = log.add(EEG)
        for k in range(20):
            log.write(eeg, np.full((5, 2), k), 5 * k + np.arange(5))
    content = (tmp_path / "a.xdf").read_bytes()
    last = -1
    for length in range(len(content) // 2, len(content), 7):
        (tmp_path / "b.xdf").write_bytes(content[:length])
        found = XdfFile(tmp_path / "b.xdf")
        seen = [int(values[0, 0]) for values, _ in found.streams[1].chunks()]
        assert seen == list(range(len(seen))) and len(seen) - 1 >= last
        last = len(seen) - 1
    assert last == 19


def test_reading_goes_on_behind_a_spoiled_part(tmp_path):
    row = [(1.0, struct.pack("<2f", 1, 2))]
    good = foreign(header(1, EEG), samples(1, row))
    (tmp_path / "a.xdf").write_bytes(good + b"\x07garbage" * 50 + chunk(5, MARK) + samples(1, row))
    assert len(list(XdfFile(tmp_path / "a.xdf").streams[1].chunks())) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF....", "must be an XDF file, but does not begin as one"),
        (b"", "must be an XDF file"),
        (foreign(samples(3, [(1.0, b"abcd")])), "stream 3: a stream must be described before its samples, but is not"),
        (foreign(chunk(2, struct.pack("<I", 1) + b"<info>")), "stream 1: a description must be XML, but"),
        (
            foreign(chunk(2, struct.pack("<I", 1) + b'<!DOCTYPE x [<!ENTITY a "b">]><info>&a;</info>')),
            "without a document type",
        ),
        (
            foreign(chunk(2, struct.pack("<I", 1) + write_description(EEG).replace(b"float32", b"float8"))),
            "channel_format must be one of float32, double64, .*, but is 'float8'",
        ),
        (
            foreign(chunk(2, struct.pack("<I", 1) + write_description(EEG).replace(b">2</ch", b">1e9</ch"))),
            "channel_count must be a whole number from 1 to 100000, but is 1e.09",
        ),
        (
            foreign(chunk(2, struct.pack("<I", 1) + write_description(EEG).replace(b">100.0<", b">nan<"))),
            "nominal_srate must be from 0 to 1e9 hertz, but is nan",
        ),
        (
            foreign(header(1, EEG), chunk(3, struct.pack("<I", 1) + size(2**31) + b"x")),
            "samples of 'amp' must be whole",
        ),
        (foreign(header(1, EEG), header(1, EEG)), "stream 1: a stream must be described once, but is described again"),
        (
            foreign(*(header(number, EEG) for number in range(257))),
            "a recording must have at most 256 streams of 200000 channels together, but has more",
        ),
        (
            foreign(
                *(
                    chunk(2, struct.pack("<I", n) + write_description(EEG).replace(b">2</ch", b">90000</ch"))
                    for n in range(3)
                )
            ),
            "a recording must have at most 256 streams of 200000 channels together, but has more",
        ),
        (
            foreign(header(1, EEG), chunk(4, struct.pack("<Idd", 1, np.inf, 0.0))),
            "stream 1: a clock offset must be of seconds, but is 0 at inf",
        ),
        (
            foreign(header(1, EEG), chunk(4, struct.pack("<Idd", 1, 0.0, np.nan))),
            "stream 1: a clock offset must be of seconds, but is nan at 0",
        ),
        (foreign(header(1, EEG), samples(1, [(1e300, b"12345678")])), "times of 'amp' must be seconds, but are not"),
        (
            foreign(header(1, WORDS), chunk(3, struct.pack("<I", 1) + size(9) + b"\x00\x04")),
            "samples of 'words' must be",
        ),
    ],
)
def test_a_file_that_breaks_a_rule_is_one_line(tmp_path, content, message):
    path = tmp_path / "bad.xdf"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=message) as raised:
        list(XdfFile(path).in_order())
    assert str(path) in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_a_log_never_takes_the_place_of_a_file(tmp_path):
    (tmp_path / "a.xdf").write_bytes(b"precious")
    with pytest.raises(BundleError, match=r"a\.xdf: a log must be a new file, but there is one of that name"):
        XdfWriter(tmp_path / "a.xdf")
    with pytest.raises(BundleError, match=r"a log must be a file that can be written, but No such file"):
        XdfWriter(tmp_path / "none" / "a.xdf")
    with pytest.raises(BundleError, match=r"none\.xdf: a recording must be a file that can be read, but No such file"):
        XdfFile(tmp_path / "none.xdf")
    assert (tmp_path / "a.xdf").read_bytes() == b"precious"


@settings(max_examples=300)
@given(st.data())
def test_a_spoiled_file_is_read_or_refused(tmp_path_factory, data):
    """Never another error, and never more than the file holds."""
    path = tmp_path_factory.getbasetemp() / f"fuzz-{os.getpid()}.xdf"
    content = bytearray(foreign(header(1, EEG), header(2, WORDS)))
    content += samples(1, [(1.0, b"abcdefgh"), (None, b"abcdefgh")]) + samples(2, [(2.0, size(2) + b"hi")])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(4, len(content)))])
    try:
        for _, values, stamps in XdfFile(path).in_order():
            assert len(values) == len(stamps) <= len(content)
    except BundleError:
        pass


@given(st.text(max_size=30), st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_a_description_comes_back_but_for_what_xml_cannot_hold(name, labels):
    described = Description(name, "EEG", tuple(Channel(label, "V") for label in labels), 5.5, source_id="x")
    back = read_description(write_description(described), "it")
    assert (back.sample_rate, back.source_id, len(back.channels)) == (5.5, "x", len(labels))
    if name.isprintable():
        assert back.name == name.strip()


def test_a_note_of_a_foreign_log_says_nothing_to_the_terminal():
    change = read_change(["-eeg", "gone\x1b[2J\n\x9bA" + "x" * 10_000], 1.0)
    assert change is not None and change.note.startswith("gone?[2J??A") and len(change.note) == 500


def test_offsets_that_were_measured_at_once_tell_no_slope():
    for apart in (1e-300, 1e-9):
        clock = FileClock([(0.0, 0.1), (apart, 0.3), (2 * apart, 0.2)])
        np.testing.assert_allclose(clock(np.array([5.0, 6.0])), [5.2, 6.2])
