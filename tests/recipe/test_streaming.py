"""A recipe that a stream will feed refuses what no stream can do, each with its key; a bundle, what windows cannot hold."""

import pytest

from fusionkit.core import registry
from fusionkit.core.modality import Modality
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.problem import RecipeError
from fusionkit.recipe.streaming import notes_of_future, refuse_bundles
from fusionkit.recipe.write import dump_recipe


class Wave(Modality):
    """Looks ahead where it is asked to."""

    encoder = "plain"

    def __init__(self, *, zero_phase: bool = False) -> None:
        self.zero_phase = zero_phase

    def read(self, path): ...

    def from_array(self, values, sample_rate=None, channels=()): ...

    def front_end(self, stored): ...

    def ahead(self):
        return ["a zero-phase filter needs the future"] if self.zero_phase else []


@pytest.fixture(autouse=True)
def waves(monkeypatch, stubs):
    monkeypatch.setattr(registry.modalities, "_classes", {"wave": Wave})


def write(recipe_file, sensor, streaming):
    return recipe_file(
        text=f"""
data: {{kind: made}}
modalities:
  eeg: {{kind: wave{sensor}}}
fusion: {{kind: vote, dim: 8}}
tasks: {{state: {{kind: number}}}}
export: {{streaming: {streaming}}}
"""
    )


REFUSED = [
    (
        ", zero_phase: true",
        r"4: modalities\.eeg: must be causal where export\.streaming is true, but a zero-phase filter",
    ),
    (
        ", smooth: {kind: lds, causal: false}",
        r"4: modalities\.eeg\.smooth\.causal: must be true for a bundle or a stream",
    ),
    (
        ", smooth: {kind: lds, over: trial}",
        r"4: modalities\.eeg\.smooth\.over: must be record for a .* but got 'trial'",
    ),
    (
        ", align: {kind: euclidean}",
        r"4: modalities\.eeg\.align\.seconds: must be given where export\.streaming is true",
    ),
    (
        ", normalise: {kind: subject}",
        r"4: modalities\.eeg\.normalise\.kind: must be calibration, .* records of a subject",
    ),
    (", normalise: {kind: recording}", r"4: modalities\.eeg\.normalise\.kind: must be calibration"),
]


@pytest.mark.parametrize(("sensor", "message"), REFUSED)
def test_what_no_stream_can_do_is_refused_with_its_key(sensor, message, recipe_file):
    assert load_recipe(write(recipe_file, sensor, "false"))
    with pytest.raises(RecipeError, match=message) as refused:
        load_recipe(write(recipe_file, sensor, "true"))
    assert len(refused.value.lines) == 1


def test_everything_is_told_at_once(recipe_file):
    text = write(recipe_file, ", align: {kind: euclidean}, normalise: {kind: subject}", "true")
    with pytest.raises(RecipeError) as refused:
        load_recipe(text, ["modalities.eeg.smooth={kind: moving_average, causal: false}"])
    assert len(refused.value.lines) == 3


@pytest.mark.parametrize("sensor", [
    "", ", smooth: {kind: lds}, align: {kind: euclidean, seconds: 20}, normalise: {kind: calibration, seconds: 9, update: true}",
    ", smooth: {kind: moving_average, steps: 4}, normalise: {kind: none}",
])  # fmt: skip
def test_what_a_stream_can_do_passes(sensor, recipe_file):
    recipe = load_recipe(write(recipe_file, sensor, "true"))
    assert refuse_bundles(recipe) is None and notes_of_future(recipe) == []


def test_bundles_are_refused_where_smoothing_leaves_the_window(recipe_file):
    said = [refuse_bundles(load_recipe(write(recipe_file, sensor, "false"))) for sensor, _ in REFUSED]
    assert [reason is not None for reason in said] == [False, True, True, False, False, False]
    assert said[2].startswith("modalities.eeg.smooth.over: must be record")


def test_what_sees_the_future_is_noted(recipe_file):
    recipe = load_recipe(
        write(recipe_file, ", zero_phase: true, smooth: {kind: lds, causal: false, over: trial}", "false")
    )
    assert notes_of_future(recipe) == [
        "eeg: not causal: a zero-phase filter needs the future",
        "eeg: not causal: each trial is smoothed by its future too",
    ]


def test_a_resolved_recipe_with_all_of_it_reads_back_as_itself(recipe_file, tmp_path):
    sensor = ", smooth: {kind: lds, over: trial}, align: {kind: euclidean, over: recording, seconds: 3}"
    recipe = load_recipe(write(recipe_file, sensor, "false"))
    again = tmp_path / "again.yaml"
    again.write_text(dump_recipe(recipe))
    assert load_recipe(str(again)).resolved() == recipe.resolved()
