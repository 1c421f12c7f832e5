"""Networks of braindecode as encoders: what goes in, what comes out, what is refused."""

import copy
import pickle
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fusionkit.core.errors import ConfigError, ShapeError, UnknownNameError
from fusionkit.core.levels import Window, WindowShape
from fusionkit.core.recording import Stored
from fusionkit.core.registry import encoders, modalities
from fusionkit.encoders import braindecode
from fusionkit.encoders.braindecode import BraindecodeEncoder, load_models
from fusionkit.recipe.build import window_shape
from fusionkit.testing import check_encoder

needs_braindecode = pytest.mark.skipif(find_spec("braindecode") is None, reason="braindecode is not installed")
adapts = pytest.mark.filterwarnings("ignore:n_times .* is smaller than the minimum:UserWarning")
VOLTS = WindowShape((3, 40), 100.0, "V")
MODELS = ["EEGNet", "ShallowFBCSPNet", "Deep4Net", "EEGConformer", "ATCNet"]
EXPORTED = MODELS[:-1]  # ATCNet splits batches into as many parts as the example has rows


class Plain(nn.Module):
    """As a network of braindecode: a batch norm over all samples of a channel, then one linear map."""

    def __init__(self, n_chans=None, n_outputs=None, n_times=None, sfreq=None, chs_info=None, gain=1.0, **kwargs):
        super().__init__()
        assert not kwargs
        self.given = (n_chans, n_outputs, n_times, sfreq)
        self.norm = nn.BatchNorm1d(n_chans, momentum=1.0, affine=False)
        self.map = nn.Linear(n_chans * n_times, n_outputs)
        self.gain = gain

    def forward(self, x):
        self.seen = x
        return self.gain * self.map(self.norm(x).flatten(1))


class Soft(Plain):
    def forward(self, x):
        return super().forward(x).log_softmax(1)


class SoftToo(Plain):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Dense(Plain):
    def forward(self, x):
        return super().forward(x)[:, :, None].expand(-1, -1, 7)


class Breaks(Plain):
    def forward(self, x):
        raise RuntimeError("two\nlines")


@pytest.fixture
def library(monkeypatch):
    """A library of networks that are easy to see through."""
    classes = {cls.__name__: cls for cls in (Plain, Soft, SoftToo, Dense, Breaks)}
    monkeypatch.setattr(braindecode, "load_models", lambda: classes)


def build(shape=VOLTS, dim=5, **options):
    return encoders.build("braindecode", options, shape, dim)


def windows(rows=4, time=40, scale=1e-5):
    values = scale * torch.randn(rows, 3, time)
    return Window(values, torch.full((rows,), time), torch.ones(rows, dtype=torch.bool))


def test_a_token_a_window_is_the_answer_of_the_network_to_microvolts(library):
    encoder, given = build(model="Plain").eval(), windows()
    tokens = encoder(given)
    assert tokens.values.shape == (4, 1, 5) and tokens.mask.tolist() == [[True]] * 4 and tokens.time is None
    torch.testing.assert_close(encoder.network.seen, 1e6 * given.values)
    assert torch.equal(tokens.values[:, 0], encoder.network(encoder.network.seen))
    assert encoder.network.given == (3, 5, 40, 100.0)


def test_only_volts_become_microvolts(library):
    encoder, given = build(WindowShape((3, 40), 100.0, "mm"), model="Plain").eval(), windows(scale=1.0)
    encoder(given)
    assert torch.equal(encoder.network.seen, given.values)
    assert build((3, 40), model="Plain").network.given == (3, 5, 40, None)


def test_the_builder_tells_of_clock_and_unit(library):
    stored = Stored(128.0, ("Fz", "Cz"), "V", (2,), "float32", 64)
    shape = window_shape(modalities.build("eeg"), stored)
    assert (shape, shape.sample_rate, shape.unit) == ((2, 64), 128.0, "V")
    assert build(shape, model="Plain").network.given == (2, 5, 64, 128.0)
    for same in (copy.deepcopy(shape), pickle.loads(pickle.dumps(shape))):
        assert (same, same.sample_rate, same.unit) == (shape, 128.0, "V")


def test_a_short_window_is_filled_up_with_zeros_whatever_stands_behind_it(library):
    encoder, given = build(model="Plain").eval(), windows()
    length = torch.tensor([40, 25, 1, 40])
    filled = torch.where(torch.arange(40) < length[:, None, None], given.values, torch.nan)
    encoder(given._replace(values=filled, length=length))
    torch.testing.assert_close(encoder.network.seen[1, :, :25], 1e6 * given.values[1, :, :25])
    assert (encoder.network.seen[1, :, 25:] == 0).all() and (encoder.network.seen[2, :, 1:] == 0).all()
    whole = encoder(given._replace(values=filled, length=length)).values
    cut = encoder(given._replace(values=filled[..., :25], length=length.clamp_max(25))).values
    assert torch.equal(cut[1:3], whole[1:3]) and not torch.equal(cut[0], whole[0])


def test_a_longer_window_than_the_longest_is_refused(library):
    with pytest.raises(ShapeError, match="at most the 40 samples that Plain was built for, but has 41"):
        build(model="Plain")(windows(time=41))


def test_a_channel_with_a_sample_that_was_not_measured_is_zeros(library):
    encoder, given = build(model="Plain").eval(), windows()
    given.values[1, 2, 7] = torch.nan
    tokens = encoder(given)
    assert (encoder.network.seen[1, 2] == 0).all() and (encoder.network.seen[1, :2] != 0).any()
    assert tokens.values.isfinite().all()


def test_records_without_the_sensor_or_without_samples_give_no_token(library):
    encoder, given = build(model="Plain").eval(), windows()
    present, length = torch.tensor([True, False, True, True]), torch.tensor([40, 40, 0, 40])
    tokens = encoder(given._replace(present=present, length=length))
    assert tokens.mask[:, 0].tolist() == [True, False, False, True]
    assert tokens.present.tolist() == present.tolist()
    assert (tokens.values[1:3] == 0).all() and (tokens.values[[0, 3]] != 0).any()


def test_training_counts_present_records_alone(library):
    encoder, given = build(model="Plain"), windows()
    present = torch.tensor([True, False, True, False])
    tokens = encoder(given._replace(present=present))
    real = 1e6 * given.values[present]
    torch.testing.assert_close(encoder.network.norm.running_mean, real.mean((0, 2)))
    wanted = encoder.network.map(
        (
            (real - real.mean((0, 2), keepdim=True)) / (real.var((0, 2), unbiased=False, keepdim=True) + 1e-5).sqrt()
        ).flatten(1)
    )
    torch.testing.assert_close(tokens.values[present, 0], wanted)
    assert (tokens.values[~present] == 0).all()
    nobody = encoder(given._replace(present=torch.zeros(4, dtype=torch.bool)))
    assert (nobody.values == 0).all() and not nobody.mask.any()
    torch.testing.assert_close(encoder.network.norm.running_mean, real.mean((0, 2)))


def test_arguments_are_those_of_the_model(library):
    assert build(model="Plain", arguments={"gain": 2.0}).network.gain == 2.0
    for arguments, message in [
        ({"gian": 2.0}, "arguments.gian: Plain has none; did you mean 'gain'"),
        ({"kwargs": 1}, r"arguments.kwargs: Plain has none; known: \['gain'\]"),
        ({"n_times": 9}, "arguments.n_times: must be left out, for it is known from the data"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build(model="Plain", arguments=arguments)
    with pytest.raises(UnknownNameError, match="no model of braindecode named 'Plane'; did you mean 'Plain'"):
        build(model="Plane")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Soft", "Soft must answer without a softmax"),
        ("SoftToo", "SoftToo must answer without a softmax"),
        ("Dense", r"Dense must answer one vector a window, \(2, 5\), but answers \(2, 5, 7\)"),
        ("Breaks", r"Breaks must take windows of 3 channels x 40 samples, but RuntimeError: two lines$"),
    ],
)
def test_a_network_that_gives_no_token_is_refused_when_it_is_built(library, model, message):
    with pytest.raises(ConfigError, match=message):
        build(model=model)


def test_windows_must_be_channels_by_time():
    with pytest.raises(ConfigError, match=r"windows \(channel, time\), but the windows are \(3, 32, 32\)"):
        build((3, 32, 32))


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "braindecode.models", None)
    with pytest.raises(ConfigError, match=r"pip install 'fusionkit-torch\[eeg\]'") as caught:
        build()
    assert "\n" not in str(caught.value)


def test_knowing_the_encoder_imports_no_library():
    code = "import sys; from fusionkit.core.registry import encoders as e; e.get('braindecode'); print('braindecode' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@needs_braindecode
@adapts
@pytest.mark.parametrize("model", ["ShallowFBCSPNet", "EEGConformer", "ATCNet"])
def test_a_network_of_braindecode_conforms(model):
    check_encoder(BraindecodeEncoder, model=model)


@needs_braindecode
@adapts
@pytest.mark.filterwarnings("ignore:Parameter 'final_layer:DeprecationWarning")
@pytest.mark.parametrize("model", MODELS)
def test_is_the_network_itself(model):
    """Built alone with the same seed, it has the same weights and gives the same answers to microvolts."""
    shape = WindowShape((4, 300), 128.0, "V")
    torch.manual_seed(3)
    encoder = build(shape, 6, model=model).eval()
    torch.manual_seed(3)
    alone = load_models()[model](n_chans=4, n_times=300, n_outputs=6, sfreq=128.0).eval()
    values = 1e-5 * torch.randn(2, 4, 300)
    tokens = encoder(Window(values, torch.full((2,), 300), torch.ones(2, dtype=torch.bool)))
    torch.testing.assert_close(tokens.values[:, 0], alone(1e6 * values))


@needs_braindecode
@pytest.mark.slow
@adapts
@pytest.mark.parametrize("model", EXPORTED)
def test_conforms_and_exports(model):
    check_encoder(BraindecodeEncoder, export=True, model=model)


@needs_braindecode
def test_a_wrong_argument_of_braindecode_is_one_line():
    with pytest.raises(ConfigError, match="F_1: EEGNet has none; did you mean 'F1'") as caught:
        build(arguments={"F_1": 4})
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="EEGNet must take windows of 3 channels x 40 samples, but"):
        build(arguments={"pool_mode": "most"})
    with pytest.raises(ConfigError, match="chs_info"):
        build(model="EEGSym")
