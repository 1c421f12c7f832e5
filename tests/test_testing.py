"""The conformance suite finds planted defects, each by the check that is named for it, and passes what is sound."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Features, FeatureShape, Tokens, Window, pool, scrub, valid
from fusionkit.core.modality import FrontEnd, Modality
from fusionkit.core.recording import Recording
from fusionkit.encoders.encoder import FeatureEncoder, WindowEncoder
from fusionkit.fusion.operation import EarlyFusion, IntermediateFusion, LateFusion
from fusionkit.losses.loss import Loss
from fusionkit.testing import (
    ConformanceError,
    cases_of,
    check_component,
    check_encoder,
    check_fusion,
    check_loss,
    check_modality,
)
from fusionkit.testing.streams import fill_hidden


class Mean(IntermediateFusion):
    """A sound operation: project what each sensor says on average, sum, one token out."""

    def __init__(
        self, inputs: Mapping[str, int], dim: int, duration: float | None, *, bias: Annotated[bool, Field()] = True
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.project = nn.ModuleList(nn.Linear(width, dim, bias=bias) for width in self.inputs.values())
        self.mix = nn.Linear(dim, dim)

    def forward(self, inputs):
        return self.finish(inputs, sum(self.vectors(inputs)))

    def vectors(self, inputs):
        here = [valid(tokens).any(1, keepdim=True) for tokens in inputs.values()]
        vectors = [project(self.pool(tokens)) for project, tokens in zip(self.project, inputs.values(), strict=True)]
        return [torch.where(there, vector, 0.0) for there, vector in zip(here, vectors, strict=True)]

    def pool(self, tokens):
        return pool(tokens)

    def finish(self, inputs, vector):
        present = torch.stack([tokens.present for tokens in inputs.values()]).any(0)
        return Tokens(torch.tanh(self.mix(vector))[:, None], present[:, None], present)


class AttendsOverTheBatch(Mean):
    def finish(self, inputs, vector):
        weight = (vector @ vector.T).softmax(-1)  # (batch, batch): meant to be over tokens
        return super().finish(inputs, weight @ vector)


class FactorsInAList(Mean):
    def __init__(self, inputs, dim, duration):
        super().__init__(inputs, dim, duration)
        self.factors = [nn.Parameter(torch.randn(width, dim)) for width in self.inputs.values()]

    def vectors(self, inputs):
        extra = [self.pool(tokens) @ factor for tokens, factor in zip(inputs.values(), self.factors, strict=True)]
        return super().vectors(inputs) + extra


class EqualLengthsOnly(Mean):
    def vectors(self, inputs):
        together = torch.stack([scrub(tokens).values for tokens in inputs.values()])
        return [*super().vectors(inputs), together.square().sum((0, 2))]


class LeaksPadding(Mean):
    def pool(self, tokens):
        return torch.where(tokens.present[:, None], tokens.values.nan_to_num().mean(1), 0.0)


class LeaksAbsence(Mean):
    def pool(self, tokens):
        weight = tokens.mask.to(tokens.values.dtype)[..., None]  # honours padding, forgets `present`
        clean = torch.where(tokens.mask[..., None], tokens.values.nan_to_num(), 0.0)
        return clean.sum(1) / weight.sum(1).clamp_min(1)

    def vectors(self, inputs):
        return [project(self.pool(tokens)) for project, tokens in zip(self.project, inputs.values(), strict=True)]


class DropsInEval(Mean):
    def finish(self, inputs, vector):
        return super().finish(inputs, nn.functional.dropout(vector, 0.5))  # `training` is True by default


SIX = {
    AttendsOverTheBatch: "row_independence",
    FactorsInAList: "parameters_registered",
    EqualLengthsOnly: "unequal_lengths",
    LeaksPadding: "padding_invariance",
    LeaksAbsence: "absent_sensor_invariance",
    DropsInEval: "deterministic_in_eval",
}


@pytest.mark.parametrize(("cls", "check"), SIX.items(), ids=lambda part: getattr(part, "__name__", part))
def test_each_of_the_six_defects_is_caught_by_its_own_check_alone(cls, check):
    with pytest.raises(ConformanceError, match=f"{cls.__name__}: {check}") as caught:
        check_fusion(cls)
    assert caught.value.checks == {check}


def test_a_sound_operation_passes_and_every_check_is_in_the_results():
    results = check_fusion(Mean)
    assert {result.outcome for result in results} <= {"passed", "skipped"}
    assert {*SIX.values(), "batch_permutation", "state_dict_round_trip", "dtypes"} <= {
        result.name for result in results
    }
    assert check_fusion(Mean, bias=False)


# More defects, of every level -------------------------------------------------------------------------


class ForgetsTheState(Mean):
    def __init__(self, inputs, dim, duration):
        super().__init__(inputs, dim, duration)
        self.register_buffer("shift", torch.randn(dim), persistent=False)

    def finish(self, inputs, vector):
        return super().finish(inputs, vector + self.shift)


class UnusedLayer(Mean):
    def __init__(self, inputs, dim, duration):
        super().__init__(inputs, dim, duration)
        self.spare = nn.Linear(dim, dim)


class Detached(Mean):
    def finish(self, inputs, vector):
        return super().finish(inputs, vector.detach())


class IgnoresOneSensor(Mean):
    def vectors(self, inputs):
        return [*super().vectors(inputs)[1:], 0 * super().vectors(inputs)[0]]


class WritesIntoItsInputs(Mean):
    def vectors(self, inputs):
        for tokens in inputs.values():
            tokens.values[~tokens.mask] = 0.0
        return super().vectors(inputs)


class SinglePrecisionOnly(Mean):
    def finish(self, inputs, vector):
        return super().finish(inputs, vector + torch.ones(1, dtype=torch.float32))


class NanWithoutSensors(Mean):
    def finish(self, inputs, vector):
        tokens = super().finish(inputs, vector)
        count = tokens.present[:, None, None].to(vector.dtype)
        return tokens._replace(values=tokens.values * count / count)


class SaysPresentAlways(Mean):
    def finish(self, inputs, vector):
        return super().finish(inputs, vector)._replace(present=torch.ones(len(vector), dtype=torch.bool))


class OrderMatters(Mean):
    def finish(self, inputs, vector):
        return super().finish(inputs, vector + torch.arange(len(vector))[:, None].to(vector.dtype))


class NanGradient(Mean):
    def pool(self, tokens):
        mask = valid(tokens)[..., None]
        values = torch.where(mask, tokens.values.square(), 0.0)  # where: the forward is clean, the backward is 0 * NaN
        return values.sum(1) / mask.sum(1).clamp_min(1)


class NeedsTwoSensors(Mean):
    def finish(self, inputs, vector):
        tokens = super().finish(inputs, vector)
        enough = torch.stack([one.present for one in inputs.values()]).sum(0) > 1
        return tokens._replace(mask=enough[:, None])


class FitsAtRandom(Mean):
    def __init__(self, inputs, dim, duration):
        super().__init__(inputs, dim, duration)
        self.register_buffer("centre", torch.zeros(()))

    def fit(self, training_batches, generator):
        rows = torch.stack([tokens.values.mean() for batch in training_batches() for tokens in batch.values()])
        self.centre.copy_(rows[np.random.default_rng().permutation(len(rows))[:2]].mean())


class TooLargeToMove(Mean):
    def __init__(self, inputs, dim, duration):
        super().__init__(inputs, dim, duration)
        self.offset = nn.Parameter(torch.full((dim,), 1e9))

    def finish(self, inputs, vector):
        return super().finish(inputs, vector + self.offset * 1e-9)


OTHERS = {
    NeedsTwoSensors: {"all_but_one_absent"},
    FitsAtRandom: {"fit_is_seeded"},
    TooLargeToMove: {"optimiser_moves_parameters"},
    ForgetsTheState: {"state_dict_round_trip"},
    UnusedLayer: {"gradient_reaches_parameters"},
    Detached: {"gradient_reaches_parameters", "gradient_reaches_inputs"},
    IgnoresOneSensor: {"gradient_reaches_parameters", "gradient_reaches_inputs"},
    WritesIntoItsInputs: {"inputs_untouched"},
    SinglePrecisionOnly: {"dtypes"},
    NanWithoutSensors: {"all_absent"},
    SaysPresentAlways: {"all_absent"},
    OrderMatters: {"row_independence", "batch_permutation"},
    NanGradient: {"hidden_gradient"},
}


@pytest.mark.parametrize(("cls", "checks"), OTHERS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_other_defects_are_caught_too(cls, checks):
    with pytest.raises(ConformanceError) as caught:
        check_fusion(cls)
    assert checks <= caught.value.checks
    assert caught.value.checks - checks <= {"gradient_reaches_inputs", "hidden_gradient"}


class WrongShape(EarlyFusion):
    """Joins pooled features, but says another width."""

    @property
    def shape(self):
        return FeatureShape(7, 1, steps=1, timed=False)

    def forward(self, inputs):
        parts = [scrub(inputs[name]).values.sum(1).flatten(1) for name in self.inputs]
        present = torch.stack([inputs[name].present for name in self.inputs]).any(0)
        return Features(torch.cat(parts, -1)[:, None, :, None], present[:, None], present)


def test_an_early_operation_must_keep_its_word_on_shape():
    with pytest.raises(ConformanceError, match=r"shape says \(7, 1\), but the values are \(\d+, 1\)") as caught:
        check_fusion(WrongShape)
    assert caught.value.checks == {"output_contract"}


class Sums(LateFusion):
    """Adds log-probabilities and forgets to normalise, or to leave absent ones out."""

    normalise: ClassVar[bool] = True
    leave_out: ClassVar[bool] = True

    def merge_log_probabilities(self, decisions, present):
        total = self.merge(decisions, present)
        return total.log_softmax(-1) if self.normalise else total

    def merge_values(self, decisions, present):
        none = ~present.any(0)
        return self.merge(decisions, present | none) / (present | none).sum(0)[:, None]

    def merge(self, decisions, present):
        if not self.leave_out:
            return decisions.nan_to_num().sum(0)
        here = present.reshape(*present.shape, *[1] * (decisions.ndim - 2))
        return torch.where(here, decisions, 0.0).sum(0)


class Unnormalised(Sums):
    normalise = False


class CountsAbsent(Sums):
    leave_out = False


def test_late_operations():
    assert check_fusion(Sums)
    with pytest.raises(ConformanceError, match="probabilities must sum to 1, but are off by") as caught:
        check_fusion(Unnormalised)
    assert "output_contract" in caught.value.checks
    with pytest.raises(ConformanceError, match="first absent from some rows, noise instead of zeros") as caught:
        check_fusion(CountsAbsent)
    assert caught.value.checks == {"absent_sensor_invariance"}


class Linear(FeatureEncoder):
    """A sound encoder: a linear map of every step."""

    def __init__(self, shape: FeatureShape, dim: int) -> None:
        super().__init__(shape, dim)
        self.map = nn.Linear(shape.width, dim)

    def forward(self, features: Features) -> Tokens:
        clean = scrub(features)
        return scrub(Tokens(self.map(clean.values.flatten(2)), clean.mask, clean.present, clean.time))


class NormalisesOverPadding(Linear):
    def forward(self, features: Features) -> Tokens:
        tokens = super().forward(features)
        return tokens._replace(values=tokens.values / (1 + tokens.values.abs().mean(1, keepdim=True)))


class KeepsAbsent(Linear):
    def forward(self, features: Features) -> Tokens:
        present = torch.ones_like(features.present)
        return super().forward(features._replace(present=present))._replace(present=features.present)


class ImagesOnly(WindowEncoder):
    """A sound window encoder that takes images alone."""

    def __init__(self, shape: tuple[int, ...], dim: int) -> None:
        if len(shape) != 3:
            raise ConfigError(f"an image must have three axes, but got {shape}")
        super().__init__(shape, dim)
        self.map = nn.Conv2d(3, dim, 8, 8)

    def forward(self, window):
        clean = torch.where(window.present[:, None, None, None], window.values, 0.0)
        values = self.map(clean).flatten(2).transpose(1, 2)
        mask = window.present[:, None].expand(-1, values.shape[1])
        return scrub(Tokens(values, mask, window.present))


def test_encoders():
    assert check_encoder(Linear)
    with pytest.raises(ConformanceError, match="steps of padding more: values") as caught:
        check_encoder(NormalisesOverPadding)
    assert caught.value.checks == {"padding_invariance"}
    with pytest.raises(ConformanceError) as caught:
        check_encoder(KeepsAbsent)
    assert caught.value.checks == {"absent_sensor_invariance"}


def test_an_encoder_is_checked_on_what_it_takes_and_the_refusals_are_told():
    results = check_encoder(ImagesOnly)
    assert {result.case for result in results if result.outcome == "passed"} == {"image"}
    refused = [result.detail for result in results if result.name == "inputs"]
    assert len(refused) == 3 and all("three axes" in detail for detail in refused)
    assert [case.label for case in cases_of(ImagesOnly)] == ["image"]


def test_padding_of_signals_by_band_is_padding_and_images_have_none():
    length, here = torch.tensor([5, 8]), torch.ones(2, dtype=torch.bool)
    for channels, kept in ((4, [5, 8]), (3, [8, 8])):
        filled = fill_hidden(Window(torch.ones(2, channels, 6, 8), length, here), "zeros").values
        assert (filled.sum(3) == torch.tensor(kept)[:, None, None]).all()


# Losses and modalities -------------------------------------------------------------------------------


class Absolute(Loss):
    takes = "value"

    def forward(self, decision, target, weights=None):
        return (decision - target).abs()


class Reduced(Absolute):
    def forward(self, decision, target, weights=None):
        return super().forward(decision, target).mean()


class Upside(Absolute):
    def forward(self, decision, target, weights=None):
        return -super().forward(decision, target)


class Likelihood(Loss):
    takes = "class"

    def forward(self, decision, target, weights=None):
        loss = -decision.gather(1, target[:, None])[:, 0]
        return loss if weights is None else loss * weights[target] / weights.sum()


def test_losses():
    with pytest.raises(ConformanceError, match="weights of 1 instead of none") as caught:
        check_loss(Likelihood)
    assert caught.value.checks == {"unit_weights"}
    assert check_loss(Absolute)
    with pytest.raises(ConformanceError, match=r"one number per record, but is \[\]"):
        check_loss(Reduced)
    with pytest.raises(ConformanceError, match="a right answer must score lower") as caught:
        check_loss(Upside)
    assert caught.value.checks == {"right_beats_wrong"}


class Blocks(FrontEnd):
    """Mean of every 100 samples."""

    def __init__(self):
        super().__init__()
        self.shape = FeatureShape(1, 1)

    def forward(self, values, length):
        real = torch.arange(values.shape[1]) < length[:, None]
        steps = values.shape[1] // 100
        blocks = torch.where(real, values, 0.0)[:, : steps * 100].reshape(-1, steps, 100)
        return blocks.mean(2)[..., None, None], (torch.arange(steps) + 1) * 100 <= length[:, None]

    def times(self, steps):
        return torch.arange(steps) * 1.0


class Sonar(Modality):
    """A sound sensor of one axis, in text files of numbers."""

    kind = "sonar"
    suffixes = frozenset({".sonar"})

    def read(self, path):
        try:
            values = np.loadtxt(path, dtype=np.float32, ndmin=1) if path.stat().st_size else np.zeros(0, np.float32)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from None
        if not len(values):
            raise DataError(f"{path}: is empty")
        return Recording(values, 100.0)

    def from_array(self, values, sample_rate=None, channels=()):
        if values.ndim != 1:
            raise DataError(f"a sonar array must have one axis, but has {values.ndim}")
        return Recording(values.astype(np.float32), sample_rate)

    def front_end(self, stored):
        return Blocks()


class Trusting(Sonar):
    def read(self, path):
        return Recording(np.fromfile(path, np.float32) if path.exists() else np.zeros(1, np.float32), 100.0)


class ScalesByTheBatch(Sonar):
    def front_end(self, stored):
        class Scaled(Blocks):
            def forward(self, values, length):
                features, mask = super().forward(values, length)
                return features / features.abs().max(), mask

        return Scaled()


class OneStepShort(Sonar):
    def front_end(self, stored):
        front_end = Blocks()
        front_end.shape = FeatureShape(1, 2)
        return front_end


class NamesByTheClock(Sonar):
    count = 0

    def from_array(self, values, sample_rate=None, channels=()):
        NamesByTheClock.count += 1
        return Recording(super().from_array(values).values, sample_rate, (str(NamesByTheClock.count),))


class ScalesInPlace(Sonar):
    def window(self, stored):
        stored *= 2
        return stored


class ForgetsItsScale(Sonar):
    fitted = True
    scale = 1.0

    def fit(self, stored, generator):
        self.scale = float(np.mean([np.abs(values).max() for values in stored]))

    def window(self, stored):
        return stored / np.float32(self.scale)


class KeepsItsScale(ForgetsItsScale):
    def files(self):
        return {"scale": repr(self.scale).encode()}

    def restore(self, files):
        self.scale = float(files["scale"])


def test_modalities_recordings_and_windows():
    for cls, check in {
        NamesByTheClock: "recording_contract",
        ScalesInPlace: "window_contract",
        ForgetsItsScale: "fitted_round_trip",
    }.items():
        with pytest.raises(ConformanceError) as caught:
            check_modality(cls)
        assert caught.value.checks == {check}
    assert check_modality(KeepsItsScale)


def test_modalities():
    assert check_modality(Sonar)
    with pytest.raises(ConformanceError, match=r"\w+.sonar must raise a DataError, but is read") as caught:
        check_modality(Trusting)
    assert caught.value.checks == {"refuses_bad_files"}
    with pytest.raises(ConformanceError, match="batch 1 and 6") as caught:
        check_modality(ScalesByTheBatch)
    assert "row_independence" in caught.value.checks
    with pytest.raises(ConformanceError, match=r"shape says \(1, 2\), but the features are \(1, 1\)") as caught:
        check_modality(OneStepShort)
    assert caught.value.checks == {"output_contract"}


class LooksAtValues(Mean):
    """Takes another way for large values: fine in Python, not in a graph."""

    def finish(self, inputs, vector):
        return super().finish(inputs, vector * 2 if vector.abs().max().item() > 100 else vector)


@pytest.mark.slow
def test_exports():
    names = {result.name for result in check_fusion(Mean, export=True) if result.outcome == "passed"}
    assert {"torch_export", "onnx_export"} <= names
    with pytest.raises(ConformanceError, match="torch_export") as caught:
        check_fusion(LooksAtValues, export=True)
    assert caught.value.checks == {"torch_export"}


# Exemptions, options, dispatch -----------------------------------------------------------------------


class Exempt(UnusedLayer):
    exempt: ClassVar[Mapping[str, str]] = {
        "gradient_reaches_parameters": "the spare layer is released later",
        "optimiser_moves_parameters": "likewise",
    }


class ExemptFromNothing(Mean):
    exempt: ClassVar[Mapping[str, str]] = {"row_independance": "a slip of the pen"}


def test_exemptions_are_printed_with_their_reason():
    results = [result for result in check_fusion(Exempt) if result.outcome == "exempt"]
    assert {result.name for result in results} == set(Exempt.exempt)
    assert "the spare layer is released later" in {result.detail for result in results}


def test_an_exemption_from_no_check_is_refused():
    with pytest.raises(ConformanceError, match=r"must name a check, but got .*'row_independance'"):
        check_fusion(ExemptFromNothing)


def test_wrong_options_and_strangers_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'bias'"):
        check_fusion(Mean, biass=True)
    with pytest.raises(ConfigError, match=r"must be one of .* to be checked, but got Recording"):
        check_component(Recording)
    assert check_component(Absolute)


def test_a_component_that_throws_fails_the_check_with_its_words():
    class Throws(Mean):
        def forward(self, inputs):
            raise KeyError("no such sensor")

    with pytest.raises(ConformanceError, match=r"runs .*: raised KeyError: 'no such sensor'") as caught:
        check_fusion(Throws)
    skipped = [result for result in caught.value.results if result.outcome == "skipped"]
    assert any("rests on runs" in result.detail for result in skipped)


def test_the_callers_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    check_fusion(Mean)
    assert torch.equal(torch.random.get_rng_state(), before)
