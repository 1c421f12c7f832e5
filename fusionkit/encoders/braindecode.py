"""Networks on raw EEG from the library braindecode, as encoders."""

import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import matplotlib
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.compatibility import load_torchaudio
from fusionkit.core.errors import ConfigError, ShapeError, UnknownNameError, did_you_mean
from fusionkit.core.framing import zero_padding
from fusionkit.core.levels import Tokens, Window, WindowShape, scrub, scrub_window
from fusionkit.core.registry import encoders
from fusionkit.encoders.encoder import WindowEncoder

GIVEN = ("n_outputs", "n_chans", "chs_info", "n_times", "input_window_seconds", "sfreq")  # known from the data


def load_models() -> Mapping[str, type[nn.Module]]:
    """The networks of `braindecode.models` by name. The first call takes seconds.

    Raises:
        ConfigError: braindecode is not installed, or does not import.
    """
    try:
        load_torchaudio()  # beside a torch that it does not fit, it would keep braindecode from loading
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what braindecode imports
            with matplotlib.rc_context():  # what it imports sets fonts for all pictures
                library = importlib.import_module("braindecode.models")
    except ImportError as error:
        raise ConfigError(
            f"kind: braindecode must have the library braindecode (pip install 'fusionkit-torch[eeg]'), but {error}"
        ) from error
    classes = {name: cls for name, cls in vars(library).items() if isinstance(cls, type) and issubclass(cls, nn.Module)}
    return {name: cls for name, cls in classes.items() if "n_outputs" in inspect.signature(cls).parameters}


@encoders.register("braindecode")
class BraindecodeEncoder(WindowEncoder):
    """One token a record from a network of the library braindecode: EEGNet, ShallowFBCSPNet, Deep4Net, ATCNet ...

    Any class of `braindecode.models` that takes ``(batch, channel, time)`` and answers one vector a window; ``dim``
    stands where its number of classes stood, and no softmax follows. It gets microvolts where windows are volts. It is
    built for the longest record: a shorter one is filled up with zeros at its end, which the network takes for
    signal, so give records of equal length, and a bundle takes windows of that length alone. A channel that was not
    measured (zeros, or any NaN) is zeros. Records without the sensor give no token and, in training, do not enter
    the network, whose batch norms would count them. Tokens have no time.

    Not every network can be exported: EEGNet, ShallowFBCSPNet, Deep4Net and EEGConformer can, ATCNet, which takes
    batches apart, cannot. EEGNet's batch norms learn what they use later over hundreds of steps; with fewer, give
    ``arguments: {batch_norm_momentum: 0.1}``.

    Args:
        shape: channels and samples of the longest window.
        dim: width of a token.
        model: name of the class.
        arguments: what that class takes besides, as its signature has it; what follows from the data (channels,
            samples, sampling rate, outputs) is given.

    Raises:
        ConfigError: braindecode is missing, an argument is unknown, or the network cannot be built for these windows.
        UnknownNameError: braindecode has no such class.

    Example:
        ``encoder: {kind: braindecode, model: EEGNet, arguments: {F1: 16, drop_prob: 0.5}}``

    Reference:
        https://braindecode.org; EEGNet: Lawhern et al., Journal of Neural Engineering 15, 2018.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dim: int,
        *,
        model: Annotated[str, Field(description="name of a class of braindecode.models")] = "EEGNet",
        arguments: Annotated[dict[str, Any] | None, Field(description="what that class takes besides")] = None,
    ) -> None:
        super().__init__(shape, dim)
        if len(shape) != 2:
            raise ConfigError(f"braindecode takes windows (channel, time), but the windows are {tuple(shape)}")
        known = shape if isinstance(shape, WindowShape) else WindowShape(shape)
        self.model = model
        self.scale = 1e6 if known.unit == "V" else 1.0
        self.network = build_network(model, arguments or {}, known, dim)

    def forward(self, window: Window) -> Tokens:
        """Encode one batch.

        Raises:
            ShapeError: windows are longer than those that the network was built for.
        """
        clean = scrub_window(window)
        real = (clean.present & (clean.length > 0))[:, None]
        values = self._samples(clean)
        answers = self._answer_some(values, real[:, 0]) if self.training else self.network(values)
        return scrub(Tokens(answers[:, None], real, clean.present))

    def _samples(self, clean: Window) -> Float[Tensor, "batch channel time"]:
        """What the network sees."""
        missing = self.shape[1] - clean.values.shape[2]
        if missing < 0:
            raise ShapeError(
                f"a window must have at most the {self.shape[1]} samples that {self.model} was built for, "
                f"but has {clean.values.shape[2]}"
            )
        values = zero_padding(clean.values, clean.length) * self.scale
        values = torch.where(values.isnan().any(2, keepdim=True), torch.zeros_like(values), values)
        return F.pad(values, (0, missing)) if missing else values

    def _answer_some(self, values: Tensor, real: Tensor) -> Float[Tensor, "batch dim"]:
        """Let real records alone into the network; zeros for the others."""
        rows = real.nonzero()[:, 0]
        answers = values.new_zeros(len(values), self.dim)
        if len(rows) == 0:
            return answers
        some = self.network(values.index_select(0, rows))
        return answers.to(some.dtype).index_copy(0, rows, some)


def build_network(name: str, arguments: Mapping[str, Any], shape: WindowShape, dim: int) -> nn.Module:
    """A network with fresh weights from torch's global random state, tried out once.

    Raises:
        ConfigError: an argument is unknown, or the network cannot be built for such windows.
        UnknownNameError: braindecode has no such class.
    """
    models = load_models()
    if name not in models:
        raise UnknownNameError("model of braindecode", name, models)
    parameters = inspect.signature(models[name]).parameters
    named = [key for key, parameter in parameters.items() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    known = sorted({*named} - {*GIVEN})
    for argument in arguments:
        if argument in GIVEN:
            raise ConfigError(f"arguments.{argument}: must be left out, for it is known from the data")
        if argument not in known:
            raise ConfigError(f"arguments.{argument}: {name} has none{did_you_mean(argument, known)}; known: {known}")
    given = {"n_outputs": dim, "n_chans": shape[0], "n_times": shape[1], "sfreq": shape.sample_rate}
    described = f"{shape[0]} channels x {shape[1]} samples"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            network = models[name](**{k: v for k, v in given.items() if k in named and v is not None}, **arguments)
            warnings.simplefilter("ignore")  # what torch says of the first pass
            with torch.no_grad():
                answer = network.eval()(torch.zeros(2, *shape))
    except Exception as error:  # a library of others may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{name} must take windows of {described}, but {reason[:300]}") from error
    if not isinstance(answer, Tensor) or answer.shape != (2, dim):
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ConfigError(f"{name} must answer one vector a window, (2, {dim}), but answers {got}")
    total = torch.stack([answer.sum(1), answer.exp().sum(1)])
    if bool(((total - 1).abs() < 1e-4).any()):
        raise ConfigError(f"{name} must answer without a softmax, but its answers, or their exponentials, sum to 1")
    return network.train()
