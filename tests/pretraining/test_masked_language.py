"""Masked language: how many words are chosen and what becomes of them, and a loss on chosen words alone."""

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import objectives
from fusionkit.pretraining.masked_language import hide_words, real_words
from fusionkit.pretraining.places import choose_some


def test_of_chosen_words_8_in_10_are_dropped_1_is_another_and_1_stays():
    ids = torch.randint(2, 1000, (200, 100), generator=torch.Generator().manual_seed(1))
    chosen = choose_some(torch.ones_like(ids, dtype=torch.bool), 0.15, torch.Generator().manual_seed(2))
    assert chosen.sum(1).unique().tolist() == [15]
    hidden = hide_words(ids, chosen, 1000, torch.Generator().manual_seed(3))
    assert torch.equal(hidden[~chosen], ids[~chosen])
    count = int(chosen.sum())
    rates = [(hidden[chosen] == 1).sum() / count, (hidden[chosen] == ids[chosen]).sum() / count]
    other = hidden[chosen & (hidden != 1) & (hidden != ids)]
    for rate, wanted in zip([*rates, len(other) / count], [0.8, 0.1, 0.1], strict=True):
        assert abs(float(rate) - wanted) < 3 * (wanted * (1 - wanted) / count) ** 0.5
    assert int(other.min()) >= 2 and int(other.max()) < 1000 and len(other.unique()) > 150


def test_equals_a_loop_over_chosen_words_which_alone_get_gradients(stage):
    made = stage(text="transformer")
    made.model.eval()
    objective = objectives.build("masked_language", {"share": 0.4}, made.given)
    objective.bind(made.model)
    seen = {}
    objective.heads["text"].register_forward_hook(lambda _, taken, out: seen.update(out=out, kept=out.retain_grad()))
    batch = made.batch(absent={("text", 3)})
    loss = made.loss(objective, batch, seed=4)
    loss.backward()
    window, generator = batch.inputs["text"], torch.Generator().manual_seed(4)
    chosen = choose_some(real_words(window), 0.4, generator)
    assert chosen.sum(1).tolist() == [4, 3, 3, 0, 3]
    hidden = hide_words(window.values, chosen, 30, generator)
    tokens = made.model.look({"text": window._replace(values=hidden)}).stream("text").values
    total = []
    for row, word in chosen.nonzero().tolist():
        logits = objective.heads["text"].weight @ tokens[row, word] + objective.heads["text"].bias
        total.append(torch.logsumexp(logits, 0) - logits[window.values[row, word]])
    torch.testing.assert_close(loss, torch.stack(total).mean())
    gradient = seen["out"].grad
    assert not gradient[~chosen].any() and gradient[chosen].any(1).all()
    assert made.model.front_ends["text"].embedding.weight.grad.any()  # it trains, too


def test_words_behind_the_length_and_absent_texts_are_never_chosen(stage):
    window = stage(text="transformer").batch(absent={("text", 3)}).inputs["text"]
    real = real_words(window)
    assert real.sum(1).tolist() == [9, 8, 7, 0, 8]


def test_all_absent_is_zero_without_nan(stage):
    made = stage(text="transformer")
    objective = objectives.build("masked_language", {}, made.given)
    loss = made.loss(objective, made.batch(absent={("text", record) for record in range(5)}))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is None or not p.grad.any() for p in made.model.parameters())


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("mlp", "tokens that know of other words, but text has mlp"), ("cnn", "a token a word, but text has cnn")],
)
def test_encoders_that_cannot_tell_are_refused(stage, kind, rule):
    made = stage(text=kind)
    with pytest.raises(ConfigError, match=rule):
        objectives.build("masked_language", {}, made.given).bind(made.model)


@pytest.mark.parametrize("kind", ["masked_language", "next_token"])
def test_a_stage_without_text_is_refused_and_others_are_passed_over(stage, kind):
    with pytest.raises(ConfigError, match=rf"{kind} learns from text, but none of \['eeg'\] is text"):
        objectives.build(kind, {}, stage(eeg="transformer").given)
    made = stage(eeg="transformer", text=("transformer", {"causal": True}))
    objective = objectives.build(kind, {}, made.given)
    objective.bind(made.model)
    made.loss(objective).backward()
    assert list(objective.heads) == ["text"] and all(p.grad is None for p in made.model.encoders["eeg"].parameters())
