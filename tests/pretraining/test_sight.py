"""What tokens know of other steps, as every encoder's definition has it."""

import pytest

from fusionkit.core.levels import FeatureShape
from fusionkit.core.registry import encoders
from fusionkit.pretraining.sight import Sight, find_sight


@pytest.mark.parametrize(
    ("kind", "options", "wanted"),
    [
        ("transformer", {}, Sight(True, True, True)),
        ("transformer", {"causal": True}, Sight(True, True, False)),
        ("transformer", {"over": "channels"}, Sight(True, False, False)),
        ("gru", {}, Sight(True, True, False)),
        ("mlp", {}, Sight(True, False, False)),
        ("shie", {}, Sight(True, False, False)),
        ("dgcnn", {}, Sight(True, False, False)),
        ("cnn", {"halvings": 3}, Sight(False, True, True)),
        ("cnn", {"halvings": 0}, Sight(True, True, True)),
    ],
)
def test_what_tokens_know_is_found_and_nothing_is_left_of_it(kind, options, wanted):
    encoder = encoders.build(kind, options, FeatureShape(4, 1), 8)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found = find_sight(encoder)
    assert found.each == wanted.each
    if wanted.each:
        assert found == wanted
    assert encoder.training and all(p.grad is None for p in encoder.parameters())
    assert all((before[name] == value).all() for name, value in encoder.state_dict().items())


def test_an_encoder_of_windows_has_no_token_a_step():
    assert not find_sight(encoders.build("image_cnn", {}, (3, 12, 12), 8)).each
