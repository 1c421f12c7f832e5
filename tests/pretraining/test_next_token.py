"""Next token: a loop over words, no look ahead, and what would see the answer is refused."""

import math

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import objectives


@pytest.mark.parametrize("encoder", [("transformer", {"causal": True}), ("gru", {}), ("mlp", {})])
def test_equals_a_loop_over_words_and_the_ones_before_them(stage, encoder):
    made = stage(text=encoder)
    made.model.eval()
    objective = objectives.build("next_token", {}, made.given)
    objective.bind(made.model)
    batch = made.batch(absent={("text", 2)})
    window = batch.inputs["text"]
    total = []
    for row in (0, 1, 3, 4):
        for word in range(1, int(window.length[row])):  # of each what stands before it is encoded alone
            before = window._replace(
                values=window.values[row : row + 1, :word], length=torch.tensor([word]), present=torch.tensor([True])
            )
            token = made.model.look({"text": before}).stream("text").values[0, -1]
            total.append(-objective.heads["text"](token).log_softmax(0)[window.values[row, word]])
    torch.testing.assert_close(made.loss(objective, batch), torch.stack(total).mean())


def test_equal_logits_cost_the_logarithm_of_the_vocabulary_and_padding_nothing(stage):
    made = stage(text=("transformer", {"causal": True}))
    objective = objectives.build("next_token", {}, made.given)
    torch.nn.init.zeros_(objective.heads["text"].weight)
    torch.nn.init.zeros_(objective.heads["text"].bias)
    seen = {}
    objective.heads["text"].register_forward_hook(lambda _, taken, out: seen.update(out=out, kept=out.retain_grad()))
    loss = made.loss(objective, made.batch(absent={("text", 0)}))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(30), rel=1e-6)
    gradient = seen["out"].grad.any(2)
    assert gradient.sum(1).tolist() == [0, 7, 6, 8, 7]  # one less than words
    assert objective.heads["text"].bias.grad.any()


def test_texts_of_one_word_and_none_at_all_are_zero_without_nan(stage):
    made = stage(text=("transformer", {"causal": True}))
    objective = objectives.build("next_token", {}, made.given)
    batch = made.batch(absent={("text", record) for record in range(5)})
    loss = made.loss(objective, batch)
    loss.backward()
    assert float(loss.detach()) == 0.0
    window = batch.inputs["text"]
    batch.inputs["text"] = window._replace(values=window.values[:, :1], present=~window.present)
    assert float(made.loss(objective, batch).detach()) == 0.0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in made.model.parameters())


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("transformer", "looks at no later word, as causal: true, but text has transformer"), ("cnn", "a token a word")],
)
def test_encoders_that_see_the_answer_are_refused(stage, kind, rule):
    made = stage(text=kind)
    with pytest.raises(ConfigError, match=rule):
        objectives.build("next_token", {}, made.given).bind(made.model)
