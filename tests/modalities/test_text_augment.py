"""SwitchOut, synonyms and back-translation against what they are defined to do, sentence by sentence."""

import re

import numpy as np
import pytest
import torch

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Window
from fusionkit.core.registry import augment
from fusionkit.modalities.audio import Audio
from fusionkit.modalities.text import BackTranslation, SwitchOut, Synonym, Text
from fusionkit.modalities.text.switch_out import corruptions
from fusionkit.modalities.text.synonym import read_thesaurus
from fusionkit.modalities.text.vocabulary import spell

SENTENCES = (
    "the big dog isn't well-known",
    "a bigger dog, a big, big cat",
    "happy days and happy mice: 42 of them",
    "größe is no size, naïve",
    "big",
)
THESAURUS = {"big": ["large", "huge"], "happy": ["glad"], "größe": ["size"], "mice": ["mouses", "vermin"]}


@pytest.fixture(scope="module")
def text() -> Text:
    made = Text(vocab_size=330)
    stored = [np.frombuffer(sentence.encode(), dtype=np.uint8) for sentence in SENTENCES * 2]
    made.fit(stored, np.random.default_rng(0))
    return made


def window(text: Text, sentences=SENTENCES, width: int | None = None) -> Window:
    rows = [text.tokenizer.encode(sentence).ids for sentence in sentences]
    values = torch.zeros(len(rows), width or max(map(len, rows)) + 30, dtype=torch.long)
    for row, ids in enumerate(rows):
        values[row, : len(ids)] = torch.tensor(ids)[: values.shape[1]]
    length = torch.tensor([min(len(ids), values.shape[1]) for ids in rows])
    return Window(values, length, torch.ones(len(rows), dtype=torch.bool))


def said(text: Text, stream: Window) -> list[str]:
    """What the real tokens spell; what lies behind them must be padding."""
    for row, length in zip(stream.values, stream.length, strict=True):
        assert not row[length:].any()
    pairs = zip(stream.values.tolist(), stream.length.tolist(), strict=True)
    return [spell(text.tokenizer, row[:length]) for row, length in pairs]


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_number_of_switched_tokens_has_its_distribution() -> None:
    draw = (torch.arange(100_000) + 0.5) / 100_000
    count = corruptions(draw, torch.full((100_000,), 4), 1.0)
    share = torch.bincount(count, minlength=5) / 100_000
    torch.testing.assert_close(share, torch.tensor([0.6364, 0.2341, 0.0861, 0.0317, 0.0117]), atol=1e-4, rtol=0)
    weight = torch.exp(-torch.arange(31.0) / 10)
    share = torch.bincount(corruptions(draw, torch.full((100_000,), 30), 10.0), minlength=31) / 100_000
    torch.testing.assert_close(share, weight / weight.sum(), atol=1e-4, rtol=0)
    edge = torch.tensor([0.0, 1 - 2**-24])
    assert corruptions(edge, torch.tensor([4, 4]), 1.0).tolist() == [0, 4]
    assert corruptions(edge, torch.tensor([0, 0]), 5.0).tolist() == [0, 0]


def test_switch_out_switches_places_and_ids_evenly(text: Text) -> None:
    made = SwitchOut(temperature=3.0)
    made.meet(text)
    given = Window(
        torch.cat([torch.full((4000, 6), 7), torch.zeros(4000, 2, dtype=torch.long)], 1),
        torch.full((4000,), 6),
        torch.ones(4000, dtype=torch.bool),
    )
    changed = made(given, seeded())
    assert not changed.values[:, 6:].any() and torch.equal(changed.length, given.length)
    other = changed.values[:, :6]
    assert other.min() >= 2 and other.max() < text.tokenizer.get_vocab_size()
    switched = other != 7
    weight = torch.exp(-torch.arange(7.0) / 3)
    mean = float((torch.arange(7.0) * weight).sum() / weight.sum())
    kept = 1 - 1 / (text.tokenizer.get_vocab_size() - 2)  # a token may become itself
    assert switched.sum(1).float().mean().item() == pytest.approx(mean * kept, abs=0.1)
    assert switched.float().mean(0).std() < 0.02
    counts = torch.bincount(other[switched], minlength=text.tokenizer.get_vocab_size())[2:]
    expected = switched.sum() / len(counts)
    assert ((counts - expected).square() / expected).sum() < 1.5 * len(counts)  # chi-squared


def plainly(sentence: str, word: str, others: list[str]) -> set[str]:
    """Every outcome with some of the whole words replaced."""
    found = {sentence}
    for match in reversed(list(re.finditer(rf"(?<!\w){word}(?!\w)", sentence))):
        found |= {one[: match.start()] + other + one[match.end() :] for one in found for other in others}
    return found


def test_every_whole_word_is_replaced_and_nothing_else(text: Text) -> None:
    made = Synonym(thesaurus=THESAURUS, rate=1.0)
    made.meet(text)
    seen: list[set[str]] = [set() for _ in SENTENCES]
    for seed in range(20):
        for row, sentence in enumerate(said(text, made(window(text), seeded(seed)))):
            seen[row].add(sentence)
    assert seen[0] == {"the large dog isn't well-known", "the huge dog isn't well-known"}
    assert seen[1] == {f"a bigger dog, a {x}, {y} cat" for x in ("large", "huge") for y in ("large", "huge")}
    assert seen[2] == {f"glad days and glad {x}: 42 of them" for x in ("mouses", "vermin")}
    assert seen[3] == {"size is no size, naïve"} and seen[4] == {"large", "huge"}


def test_words_are_replaced_at_their_rate_each_by_itself(text: Text) -> None:
    made = Synonym(thesaurus={"big": ["large", "huge"]}, rate=0.3)
    made.meet(text)
    found = said(text, made(window(text, ["a big big cat"] * 1000), seeded()))
    assert set(found) <= plainly("a big big cat", "big", ["large", "huge"])
    share = sum(one.count("large") + one.count("huge") for one in found) / 2000
    assert share == pytest.approx(0.3, abs=3 * (0.21 / 2000) ** 0.5)
    assert sum(one.count("huge") for one in found) / 2000 == pytest.approx(0.15, abs=0.03)


def test_a_sentence_that_grows_is_cut_at_the_window(text: Text) -> None:
    made = Synonym(thesaurus={"big": ["extraordinary"]}, rate=1.0)
    made.meet(text)
    changed = made(window(text, ["big dog", "a cat"], width=8), seeded())
    whole = text.tokenizer.encode("extraordinary dog").ids
    assert changed.length.tolist()[0] == 8 and changed.values[0].tolist() == whole[:8]
    assert torch.equal(changed.values[1], window(text, ["big dog", "a cat"], width=8).values[1])


def test_padding_absence_and_dropped_tokens_are_no_words(text: Text) -> None:
    made = Synonym(thesaurus=THESAURUS, rate=1.0)
    made.meet(text)
    given = window(text)._replace(length=torch.zeros(len(SENTENCES), dtype=torch.long))
    assert torch.equal(made(given, seeded()).values, given.values)  # nothing is real
    inside = window(text, ["big big"])
    inside.values[0, 1] = 1
    assert said(text, made(inside, seeded()))[0].split()[0] in ("large", "huge")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("big large", "1 is 'big large'"),
        ("big:\n", "1 is 'big:'"),
        ("big: large\n# more\nbig: huge", "3 has 'big' again"),
    ],
)
def test_a_broken_thesaurus_is_refused_by_line(tmp_path, lines, message) -> None:
    path = tmp_path / "words.txt"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        Synonym(thesaurus=str(path))


def test_a_thesaurus_is_read_from_its_file(tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# ours\nbig: large, huge  # sizes\n\nglad: happy\n", encoding="utf-8")
    assert read_thesaurus(path) == {"big": ["large", "huge"], "glad": ["happy"]}
    with pytest.raises(ConfigError, match="No such file"):
        Synonym(thesaurus=str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    ("thesaurus", "message"),
    [({}, "is empty"), ({"big": []}, "'big' has none"), ({"big": ["very large"]}, "got 'very large'")],
)
def test_words_that_cannot_be_replaced_are_refused(thesaurus, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Synonym(thesaurus=thesaurus)


ASKED: list[tuple[list[str], int]] = []


def pivot(sentences: list[str], variant: int) -> list[str]:
    """There and back over a language of one's own: words in another order, or other words."""
    ASKED.append((sentences, variant))
    words = {"dog": "hound", "cat": "puss"}
    if variant == 0:
        return [" ".join(words.get(word, word) for word in sentence.split()) for sentence in sentences]
    return ["" if sentence == "big" else " ".join(reversed(sentence.split())) for sentence in sentences]


def test_back_translation_says_what_the_function_says_and_asks_once(text: Text) -> None:
    made = augment.build("back_translation", {"function": f"{__name__}:pivot", "variants": 2, "probability": 1.0})
    made.meet(text)
    ASKED.clear()
    sentences = ["the big dog", "a cat", "big"]
    outcomes = [
        {sentence, *(f([sentence])[0] for f in (lambda s: pivot(s, 0), lambda s: pivot(s, 1)))}
        for sentence in sentences
    ]
    ASKED.clear()
    for seed in range(12):
        found = said(text, made(window(text, sentences), seeded(seed)))
        assert all(one in allowed for one, allowed in zip(found, outcomes, strict=True))
        assert found[2] == "big"  # a blank answer leaves the sentence
    asked = [(sentence, variant) for given, variant in ASKED for sentence in given]
    assert len(asked) == len(set(asked)) == 6


def test_back_translation_leaves_absent_and_unchosen_sentences(text: Text) -> None:
    made = BackTranslation(function=f"{__name__}:pivot", probability=0.5)
    made.meet(text)
    given = window(text, ["the dog"] * 400)
    given = given._replace(present=torch.arange(400) % 2 == 0)
    changed = (made(given, seeded()).values != given.values).any(1)
    assert not changed[1::2].any()
    assert changed[::2].float().mean().item() == pytest.approx(0.5, abs=0.11)


def too_few(sentences: list[str], variant: int) -> list[str]:
    return sentences[1:]


def broken(sentences: list[str], variant: int) -> list[str]:
    raise ValueError("no\nnetwork")


@pytest.mark.parametrize(
    ("name", "message"),
    [("too_few", "a list of 2 sentences, but gave 1 items"), ("broken", "but ValueError: no network")],
)
def test_a_translator_that_fails_is_named(text: Text, name, message) -> None:
    made = BackTranslation(function=f"{__name__}:{name}", probability=1.0)
    made.meet(text)
    with pytest.raises(DataError, match=message):
        made(window(text, ["a dog", "a cat"]), seeded())


@pytest.mark.parametrize(
    ("function", "message"),
    [("no_such_module_at_all:f", "ModuleNotFoundError"), (f"{__name__}:nothing", "got 'nothing'"), ("os", "pattern")],
)
def test_a_function_that_is_not_there_is_refused(function, message) -> None:
    with pytest.raises(ConfigError, match=message):
        augment.build("back_translation", {"function": function})


def test_only_text_has_a_vocabulary() -> None:
    changes = SwitchOut(), Synonym(thesaurus=THESAURUS), BackTranslation(function=f"{__name__}:pivot")
    for made in changes:
        with pytest.raises(ConfigError, match="must be of a text sensor, but got audio"):
            made.meet(Audio())
        with pytest.raises(ConfigError, match="must meet its sensor first"):
            made(Window(torch.full((4, 3), 5), torch.full((4,), 3), torch.ones(4, dtype=torch.bool)), seeded(3))
