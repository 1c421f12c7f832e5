"""TF-IDF word replacement against plain loops over words, and sklearn's inverse frequencies."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Window
from fusionkit.modalities.audio import Audio
from fusionkit.modalities.text import Text, TfIdf
from fusionkit.modalities.text.tf_idf import inverse_frequency, replacement, replacements
from fusionkit.modalities.text.vocabulary import DROPPED, PADDING

SENTENCES = (
    "the cat saw the dog",
    "the dog saw a cat in the garden",
    "the stock market fell",
    "the garden of the market",
    "a dog",
)


@pytest.fixture(scope="module")
def text() -> Text:
    made = Text(vocab_size=400, min_frequency=1)
    made.fit([np.frombuffer(said.encode(), dtype=np.uint8) for said in SENTENCES], np.random.default_rng(0))
    return made


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def repeated(text: Text, sentence: str, times: int, padding: int = 3) -> Window:
    ids = text.tokenizer.encode(sentence).ids
    row = torch.tensor([*ids, *[PADDING] * padding])
    return Window(row.repeat(times, 1), torch.full((times,), len(ids)), torch.ones(times, dtype=torch.bool))


def plain(text: Text) -> tuple[dict[int, float], dict[int, float]]:
    """IDF and summed scores of every token that occurs, by the paper's definitions."""
    documents = [text.tokenizer.encode(said).ids for said in SENTENCES]
    idf = {w: math.log(len(documents) / sum(w in d for d in documents)) for d in documents for w in d}
    score = dict.fromkeys(idf, 0.0)
    for document in documents:
        for word in document:
            score[word] += idf[word] / len(document)
    return idf, score


def test_the_docs_values_hold() -> None:
    found = inverse_frequency(torch.tensor([4, 1, 0, 2]), 4)
    torch.testing.assert_close(found, torch.tensor([0.0, 4.0, 4.0, 2.0], dtype=torch.float64).clamp_min(1).log())
    idf = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 2.0])  # four words, each a quarter of the sentence
    ids, real = torch.tensor([[2, 3, 4, 5, 0]]), torch.tensor([[True, True, True, True, False]])
    torch.testing.assert_close(replacement(ids, real, idf, 0.2), torch.tensor([[0.4, 0.2, 0.2, 0.0, 0.0]]))
    got = replacements(torch.tensor([9.0, 0.0, 1.0, 2.0]), torch.tensor([False, True, True, True]))
    torch.testing.assert_close(got, torch.tensor([0.0, 2 / 3, 1 / 3, 0.0]))


def test_words_that_score_alike_stay_and_are_drawn_evenly() -> None:
    idf, real = torch.ones(4), torch.tensor([[True, True, False], [False, False, False]])
    probability = replacement(torch.tensor([[2, 3, 0], [0, 0, 0]]), real, idf, 0.5)
    assert not probability.any()
    even = replacements(torch.ones(4), torch.tensor([False, False, True, True]))
    torch.testing.assert_close(even, torch.tensor([0.0, 0.0, 0.5, 0.5]))


def test_a_probability_is_at_most_one_and_a_repeated_word_counts_its_times() -> None:
    idf = torch.tensor([0.0, 0.0, 1.0, 2.0])
    ids, real = torch.tensor([[2, 2, 2, 3]]), torch.ones(1, 4, dtype=torch.bool)
    # scores are 0.75 three times and 0.5: the rare word that comes once says less here
    torch.testing.assert_close(replacement(ids, real, idf, 0.2), torch.tensor([[0.0, 0.0, 0.0, 0.8]]))
    assert replacement(ids, real, idf, 0.5).max() == 1


def test_counts_are_those_of_the_training_sentences(text: Text) -> None:
    documents = [text.tokenizer.encode(said).ids for said in SENTENCES]
    assert text.counts is not None and text.counts.total == len(SENTENCES)
    for word in range(text.tokenizer.get_vocab_size()):
        assert text.counts.sentences[word] == sum(word in document for document in documents)
        share = sum(Counter(document)[word] / len(document) for document in documents)
        assert text.counts.shares[word] == pytest.approx(share)


def test_inverse_frequencies_are_those_of_sklearn(text: Text) -> None:
    sklearn = pytest.importorskip("sklearn.feature_extraction.text")
    fitted = sklearn.TfidfVectorizer(analyzer=lambda said: text.tokenizer.encode(said).ids, smooth_idf=False)
    fitted.fit(SENTENCES)
    made = TfIdf()
    made.meet(text)
    for word, place in fitted.vocabulary_.items():
        assert float(made.idf[word]) == pytest.approx(fitted.idf_[place] - 1, abs=1e-6)  # theirs adds one


def test_words_are_replaced_as_often_and_by_what_the_formulas_say(text: Text) -> None:
    idf, score = plain(text)
    made, times = TfIdf(rate=0.3), 20_000
    made.meet(text)
    given = repeated(text, SENTENCES[1], times)
    changed = made(given, seeded()).values
    ids = given.values[0].tolist()[: int(given.length[0])]
    own = [ids.count(word) / len(ids) * idf[word] for word in ids]
    room = [max(own) - one for one in own]
    least = max(score.values())
    drawn = {word: least - value for word, value in score.items()}
    total = sum(drawn.values())
    for place, word in enumerate(ids):
        probability = min(1, 0.3 * len(ids) * room[place] / sum(room))
        other = probability * (1 - drawn[word] / total)  # it may be replaced by itself
        assert (changed[:, place] != word).float().mean().item() == pytest.approx(other, abs=0.02)
    assert not changed[:, len(ids) :].any()
    place = room.index(max(room))  # of the words that replaced the one that says least
    came = Counter(changed[:, place][changed[:, place] != ids[place]].tolist())
    left = total - drawn[ids[place]]
    for word, value in drawn.items():
        if word != ids[place]:
            assert came[word] / came.total() == pytest.approx(value / left, abs=0.02)
    assert set(came) <= set(score)


def test_padding_absence_dropped_tokens_and_unchosen_sentences_stay(text: Text) -> None:
    made = TfIdf(rate=1.0)
    made.meet(text)
    given = repeated(text, SENTENCES[1], 50)
    given.values[:, 0] = DROPPED
    given = given._replace(length=torch.where(torch.arange(50) < 25, given.length, 0))
    changed = made(given, seeded())
    assert (changed.values[:, 0] == DROPPED).all() and torch.equal(changed.values[25:], given.values[25:])
    assert (changed.values[:25] != given.values[:25]).any() and torch.equal(changed.length, given.length)
    never = TfIdf(rate=1.0, probability=0.0)
    never.meet(text)
    assert torch.equal(never(given, seeded()).values, given.values)
    assert torch.equal(made(given, seeded(3)).values, made(given, seeded(3)).values)


def test_counts_come_back_with_the_vocabulary(text: Text) -> None:
    again = Text()
    again.restore(text.files())
    assert again.counts == text.counts and again.files() == text.files()
    old = Text()
    old.restore({"tokenizer.json": text.files()["tokenizer.json"]})  # of a run that kept none
    with pytest.raises(ConfigError, match="tf_idf must have counts of words, but the sensor was fitted before"):
        TfIdf().meet(old)
    short = json.dumps({"total": 5, "sentences": [1], "shares": [0.5]}).encode()
    for content in (b"[", b"{}", b"[]", short):
        with pytest.raises(DataError, match=r"counts\.json must have a count for each of"):
            Text().restore({**text.files(), "counts.json": content})


def test_it_is_of_text_that_has_sentences(text: Text) -> None:
    with pytest.raises(ConfigError, match="tf_idf must be of a text sensor, but got audio"):
        TfIdf().meet(Audio())
    with pytest.raises(ConfigError, match="tf_idf must meet its sensor first"):
        TfIdf()(repeated(text, "a dog", 2), seeded())
    empty = Text(vocab_size=258)
    empty.fit([], np.random.default_rng(0))
    with pytest.raises(ConfigError, match="tf_idf must have training sentences"):
        TfIdf().meet(empty)
