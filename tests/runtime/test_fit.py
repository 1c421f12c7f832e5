"""Which stream is a sensor's, and how its samples become those of the manifest."""

from dataclasses import replace

import numpy as np
import pytest

from fusionkit.runtime import BundleError
from fusionkit.runtime.description import Channel, Description
from fusionkit.runtime.fit import choose, delivered, fit
from fusionkit.runtime.manifest import Normalise, Sensor, SensorWindow, Source, StoredSensor

EEG = Sensor(
    kind="eeg", layout="channel, time", shape=(2, None), dtype="float32", longest=50, sample_rate=100.0,
    channels=("Fz", "Cz"), unit="V", align=None, normalise=Normalise("none"), statistics=None, chain=(),
    stored=StoredSensor(100.0, ("Fz", "Cz"), "V", (2,), "<f4", 50), window=SensorWindow(50, 0.5),
    stream=Source(250.0, ("Fz", "Cz"), "V"),
)  # fmt: skip
SOUND = replace(
    EEG, kind="audio", layout="time", shape=(None,), channels=(), unit="", sample_rate=8000.0, stream=Source(8000.0, (), "")
)  # fmt: skip
TEXT = replace(
    EEG, kind="text", layout="token", shape=(None,), dtype="int64", sample_rate=None, channels=(), stream=None, chain=None
)  # fmt: skip


def stream(*channels, rate=250.0, name="amp", **more):
    return Description(name, "EEG", tuple(channels), rate, **more)


def volts(*labels, unit="V"):
    return tuple(Channel(label, unit) for label in labels)


def test_channels_are_put_in_order_and_scaled_each_by_its_own_unit():
    how = fit("eeg", EEG, stream(Channel("Cz", "microvolts"), Channel("trigger", "none"), Channel("fz", "mV")))
    np.testing.assert_allclose(how(np.array([[5, 99, 7]], np.float32)), [[7e-3, 5e-6]], rtol=1e-6)
    assert how(np.array([[5, 99, 7]], np.float32)).dtype == np.float32


@pytest.mark.parametrize("unit", ["V", "volts", "Volt", "v"])
def test_volts_stay_as_they_are(unit):
    values = np.array([[1e-5, 2e-5]], np.float32)
    np.testing.assert_array_equal(fit("eeg", EEG, stream(*volts("Fz", "Cz", unit=unit)))(values), values)


@pytest.mark.parametrize("unit", ["uV", "µV", "μV", "microvolts", "Microvolt"])
def test_every_spelling_of_microvolts_is_known(unit):
    assert fit("eeg", EEG, stream(*volts("Fz", "Cz", unit=unit))).factor == (1e-6, 1e-6)


def test_a_unit_that_is_given_counts_more_than_what_the_stream_says():
    assert fit("eeg", EEG, stream(*volts("Fz", "Cz")), "nanovolts").factor == (1e-9, 1e-9)


def test_many_digits_are_kept():
    how = fit("eeg", EEG, stream(*volts("Fz", "Cz"), format="double64"))
    values = np.array([[1 + 1e-12, 2.0]])
    np.testing.assert_array_equal(how(values), values)
    assert delivered("eeg", EEG, stream(*volts("Fz", "Cz"), format="double64"), how).format == "double64"


def test_sound_is_one_signal_from_minus_one_to_one():
    two = Description("mic", "Audio", (Channel("left"), Channel("right")), 8000.0, "int16")
    values = np.array([[-(2**15), 0], [2**14, 2**14]], np.int16)
    np.testing.assert_array_equal(fit("audio", SOUND, two)(values), [[-0.5], [0.5]])
    one = Description("mic", "Audio", (Channel(),), 8000.0)
    np.testing.assert_array_equal(fit("audio", SOUND, one)(np.array([[0.25]], np.float32)), [[0.25]])


def test_sentences_are_the_first_channel_of_text():
    words = Description("speech", "Text", (Channel(), Channel()), None, "string")
    assert fit("text", TEXT, words)([["hello", "x"], ["you", "y"]]) == ["hello", "you"]
    with pytest.raises(BundleError, match="text: stream 'amp' must be of text, but its samples are float32"):
        fit("text", TEXT, stream(*volts("Fz")))


def test_a_rate_may_be_off_by_a_thousandth():
    assert fit("eeg", EEG, stream(*volts("Fz", "Cz"), rate=250.1))
    for rate, said in ((250.5, "has 250.5"), (None, "has none")):
        with pytest.raises(BundleError, match=f"must have a rate of 250 Hz, but {said}"):
            fit("eeg", EEG, stream(*volts("Fz", "Cz"), rate=rate))


def test_what_does_not_fit_is_said():
    with pytest.raises(BundleError, match="eeg: stream 'amp' must have one channel 'Cz', but has 2"):
        fit("eeg", EEG, stream(*volts("Fz", "CZ", "cz")))
    assert fit("eeg", EEG, stream(*volts("Fz", "CZ", "Cz"))).order == (0, 2)  # its very name counts more
    with pytest.raises(BundleError, match="must have the channels Fz, Cz, but has A, B"):
        fit("eeg", EEG, stream(*volts("A", "B")))
    with pytest.raises(BundleError, match="must be of numbers, but its samples are text"):
        fit("eeg", EEG, stream(*volts("Fz", "Cz"), format="string"))
    with pytest.raises(BundleError, match="eeg: a stream needs causal steps, but this sensor looked ahead"):
        fit("eeg", replace(EEG, chain=None), stream(*volts("Fz", "Cz")))
    with pytest.raises(BundleError, match=r"eeg: a stream of samples needs a rate, but this sensor .eeg. has none"):
        fit("eeg", replace(EEG, stream=Source(None, (), "")), stream(*volts("Fz", "Cz")))


def test_a_name_counts_more_than_a_type_and_our_own_answers_are_no_sensor():
    found = [
        Description("answers", "Decision", volts("a"), 10.0),
        Description("EEG", "brain", volts("a"), 10.0),
        Description("amp", "EEG", volts("a"), 10.0, source_id="serial"),
        Description("eeg", "Decision", volts("a"), 10.0),
    ]
    assert choose("eeg", EEG, found) == 1
    assert choose("head", EEG, found) == 2
    assert choose("eeg", EEG, found, "amp") == choose("eeg", EEG, found, "serial") == 2
    assert choose("eeg", EEG, found, "EMG") is None and choose("sonar", SOUND, found) is None


def test_streams_of_one_name_are_told_apart_by_source():
    twins = [Description("amp", "EEG", volts("a"), 10.0, source_id=one) for one in ("left", "right")]
    with pytest.raises(BundleError, match="there are 'left', 'right': choose one by a source id"):
        choose("eeg", EEG, twins)
    assert choose("eeg", EEG, twins, "right") == 1
