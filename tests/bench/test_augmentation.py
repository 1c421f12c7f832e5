"""The bench of augmentation: what it times, of which steps, and when it ends with 1."""

import json
import time

import pytest

from fusionkit.augment.channel_noise import ChannelNoise
from fusionkit.bench.augmentation import bench_augmentation
from fusionkit.cli import main
from fusionkit.core.errors import ConfigError
from fusionkit.fusion.model import FusionModel
from fusionkit.recipe.write import dump_recipe

STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 9, batch: 4}"
NOISE = "augment={eeg: [{kind: channel_noise}]}"


@pytest.fixture
def slow(monkeypatch):
    """Every augmentation takes 5 ms, and every model's answer 20 ms beside it."""

    def forward(self, stream, generator=None):
        time.sleep(0.005)
        return stream

    answer = FusionModel.answer
    monkeypatch.setattr(ChannelNoise, "forward", forward)
    monkeypatch.setattr(FusionModel, "answer", lambda *given: time.sleep(0.02) or answer(*given))


def test_augmentations_are_timed_within_their_steps(slow, tiny):
    stage, fused = bench_augmentation(tiny(STAGE, NOISE))
    assert (stage.part, fused.part) == ("pretrained", "fused")
    assert (stage.steps, fused.steps) == (2 * 3, 2 * 1)  # two epochs of 16 records, without the first step of each
    assert 10 <= stage.augmentation_ms < 20 and 5 <= fused.augmentation_ms < 10  # two looks, one
    for part in (stage, fused):
        assert part.share == pytest.approx(part.augmentation_ms / part.step_ms, rel=0.2)
    assert stage.step_ms > 10 and fused.step_ms > 25
    assert 0 < stage.records_per_second < 4 / 0.010 and 0 < fused.records_per_second < 8 / 0.025
    assert not stage.kept


def test_a_recipe_without_augmentation_spends_nothing_and_leaves_nothing(tiny, tmp_path):
    (fused,) = bench_augmentation(tiny(), epochs=1)
    assert fused.augmentation_ms == fused.share == 0 and fused.kept
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".cache"]


def test_one_step_an_epoch_cannot_be_timed(tiny):
    with pytest.raises(
        ConfigError, match=r"train.batch: an epoch must have two steps or more to be timed, but has one"
    ):
        bench_augmentation(tiny("train.batch=64"))
    with pytest.raises(ConfigError, match=r"train.task_mode: a step must move weights once"):
        bench_augmentation(tiny("train.task_mode=per_task_step"))


def test_the_command_prints_a_line_a_part_and_ends_with_1_above_a_fifth(slow, tiny, tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(tiny(NOISE)))
    more = "augment.eeg=[" + ", ".join(["{kind: channel_noise}"] * 8) + "]"
    assert main(["bench", "augmentation", str(path), more]) == 1
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["step", "ms"] and line.startswith("fused") and line.endswith("FAIL")
    assert main(["bench", "augmentation", str(path), "augment={}", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["kept"] and found["share"] == 0
