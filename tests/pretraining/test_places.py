"""Places: cut and put back, hidden without a trace, drawn in the right number, and priced where hidden alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features
from fusionkit.pretraining.places import choose_some, find_places, hidden_error

KINDS = ["image image_cnn", "image mlp", "eeg transformer", "eeg window"]


def raw(stage):
    """A stage whose EEG is taken as windows, by an encoder that is not asked here."""
    made = stage(eeg="mlp")
    return replace(made, given=replace(made.given, levels={"eeg": "window"}))


@settings(max_examples=40)
@given(st.integers(1, 40), st.sampled_from([0.15, 0.5, 0.75, 0.99]), st.integers(0, 5))
def test_a_share_of_what_is_real_is_drawn_and_one_stays(length, share, seed):
    real = torch.arange(40) < torch.tensor([[length], [40], [0]])
    chosen = choose_some(real, share, torch.Generator().manual_seed(seed))
    wanted = [min(max(round(share * n), 1), n - 1) if n else 0 for n in (length, 40, 0)]
    assert chosen.sum(1).tolist() == pytest.approx(wanted, abs=1e-9)
    assert not (chosen & ~real).any()


def test_of_196_patches_49_stay_and_all_are_alike():
    real = torch.ones(2000, 196, dtype=torch.bool)
    chosen = choose_some(real, 0.75, torch.Generator().manual_seed(0))
    assert set((~chosen).sum(1).tolist()) == {49}
    rate = chosen.float().mean(0)
    assert float((rate - 0.75).abs().max()) < 4.5 * (0.75 * 0.25 / 2000) ** 0.5


def test_hidden_places_alone_cost_something():
    predicted = torch.zeros(1, 3, 1, 2, requires_grad=True)
    target = torch.tensor([[2.0, 2.0], [5.0, 1.0], [1.0, 3.0]]).reshape(1, 3, 1, 2)
    hidden = torch.tensor([True, False, True]).reshape(1, 3, 1)
    loss = hidden_error(predicted, target, hidden)
    loss.backward()
    assert float(loss.detach()) == pytest.approx((4 + (1 + 9) / 2) / 2)
    assert predicted.grad is not None
    assert not predicted.grad[~hidden].any() and predicted.grad[hidden].all()
    assert float(hidden_error(predicted.detach(), target, torch.zeros_like(hidden))) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_cannot_be_seen_and_what_is_not_is_as_it_was(stage, kind):
    name, encoder = kind.split()
    made = raw(stage) if encoder == "window" else stage(**{name: encoder})
    places = find_places(made.given, "test", None)[name]
    looks = made.looks(made.batch(absent={(name, 1)}))
    level = looks.clean.levels[name] if made.given.levels[name] == "window" else looks.level(name)
    cut = places.cut(level)
    assert cut.values.shape[2:] == (places.channel, places.width)
    assert places.grid(cut.values.shape[1])[0] * places.grid(cut.values.shape[1])[1] == cut.values.shape[1]
    hidden = (torch.rand(cut.values.shape[:3]) < 0.5) & cut.mask[:, :, None]
    hidden[:, 0] = cut.mask[:, :1]
    shown = places.show(level, hidden)
    again = places.cut(shown)
    stays = (~hidden & cut.mask[:, :, None])[..., None].expand_as(cut.values)
    torch.testing.assert_close(again.values[stays], cut.values[stays])
    if isinstance(level, Features):
        assert not shown.mask[shown.present, 0].any() and not shown.values[hidden].any()
        other = level._replace(values=torch.where(hidden[..., None], torch.full_like(level.values, 9.0), level.values))
    else:
        marks = places.cut(level._replace(values=torch.full_like(level.values, 9.0)))
        assert not (again.values == 9.0).any() and (marks.values[0] == 9.0).any()
        noise = places.cut(level).values + 9.0 * hidden[..., None]
        other = level._replace(values=places._spread(noise, level))
    torch.testing.assert_close(places.cut(places.show(other, hidden)).values, again.values)


def test_samples_and_pixels_are_predicted_in_units_of_their_record(stage):
    made = raw(stage)
    places = find_places(made.given, "test", 4)["eeg"]
    level = made.looks().clean.levels["eeg"]
    target = places.target(level._replace(values=level.values * 1e-6 + 3e-5))
    for record in range(5):
        length = int(level.length[record]) // 4 * 4
        for channel in range(4):
            wanted = level.values[record, channel, :length]
            wanted = (wanted - wanted.mean()) / wanted.std(correction=0)
            torch.testing.assert_close(
                target.values[record, : length // 4, channel].flatten(), wanted, rtol=1e-3, atol=1e-3
            )
    assert not places.target(level._replace(values=torch.zeros_like(level.values))).values.any()


def test_what_has_no_places_is_refused_or_passed_over(stage):
    with pytest.raises(ConfigError, match=r"none of \['text'\] is such"):
        find_places(stage(text="transformer").given, "masked_autoencoder", None)
    assert list(find_places(stage(text="transformer", eeg="mlp").given, "masked_autoencoder", None)) == ["eeg"]
    with pytest.raises(ConfigError, match="side 7 is over half of its 12"):
        find_places(stage(image="image_cnn").given, "masked_autoencoder", 7)
