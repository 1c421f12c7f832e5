"""Text: cells and files, the vocabulary, its file, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Stored
from fusionkit.core.registry import modalities
from fusionkit.modalities.text import Text

SENTENCES = ["the signal rises and falls", "the signal falls again", "calm and calmer", "Loud, LOUD and louder!"] * 3
STORED = Stored(None, (), "", (), "uint8", 80)


def stored(sentence: str) -> np.ndarray:
    return np.frombuffer(sentence.encode(), dtype=np.uint8)


def fitted(**options) -> Text:
    text = Text(**options)
    text.fit(map(stored, SENTENCES), np.random.default_rng(0))
    return text


@pytest.fixture(scope="module")
def text() -> Text:
    return fitted(vocab_size=300)


def test_a_cell_becomes_utf_8_bytes():
    assert Text().from_cell("grün").values.tobytes() == "grün".encode()
    assert Text.in_cells and Text.fitted


@pytest.mark.parametrize("content", ["a sentence", "\ufeffa sentence", "zwei\nZeilen", "emoji 😀"])
def test_a_file_is_read_whole_and_without_its_byte_order_mark(tmp_path, content):
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    assert Text().read(tmp_path / "a.txt").values.tobytes().decode() == content.removeprefix("\ufeff")


def test_bad_files_and_cells_are_refused_by_name(tmp_path):
    for name, content, said in [
        ("empty.txt", b"", "blank"),
        ("blank.txt", b" \n\t ", "blank"),
        ("latin.txt", "grün".encode("latin-1"), "byte 2 is not"),
        ("cut.txt", "abc😀".encode()[:-1], "byte 3 is not"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=said) as caught:
            Text().read(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        Text().read(tmp_path / "missing.txt")
    with pytest.raises(DataError, match="blank"):
        Text().from_cell("  ")
    with pytest.raises(DataError, match="surrogate"):
        Text().from_cell("half \ud83d")


def test_arrays_of_text_and_of_bytes_are_taken():
    for values in (np.array("grün"), stored("grün")):
        assert Text().from_array(values).values.tobytes() == "grün".encode()
    for values in (np.zeros(3), np.array(["a", "b"]), np.zeros((1, 2), np.uint8)):
        with pytest.raises(DataError, match="string or UTF-8 bytes"):
            Text().from_array(values)
    with pytest.raises(DataError, match="byte 0 is not"):
        Text().from_array(np.array([255], np.uint8))


def test_frequent_words_become_one_token_and_rare_ones_stay_bytes(text):
    assert len(text.window(stored("the signal"))) == 2
    assert len(text.window(stored("xylophone"))) > 5


@settings(deadline=None, max_examples=150)
@given(st.text(min_size=1, max_size=30))
@example("[pad] [drop] [pad]")
@example("\x00 nul")
def test_no_text_is_unknown_and_none_reaches_the_reserved_ids(sentence):
    text = _shared()
    ids = text.window(stored(sentence))
    assert ids.dtype == np.int64 and ids.ndim == 1
    assert ((ids >= 2) & (ids < text.tokenizer.get_vocab_size())).all()


@settings(deadline=None, max_examples=80)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_the_bytes_of_a_text_can_be_told_from_its_ids(sentence):
    """Nothing is lost but case and Unicode's composition, so two different texts have different ids."""
    text = _shared()
    pieces = [text.tokenizer.id_to_token(i) for i in text.window(stored(sentence))]
    normal = text.tokenizer.normalizer.normalize_str(sentence).encode()
    assert sum(len(piece) for piece in pieces) in (len(normal), len(normal) + 1)  # one character a byte; a space before


_kept: list[Text] = []


def _shared() -> Text:
    if not _kept:
        _kept.append(fitted(vocab_size=300, max_tokens=500))
    return _kept[0]


def test_long_texts_are_cut():
    text = fitted(max_tokens=5)
    whole = fitted(max_tokens=500).window(stored(SENTENCES[3] * 4))
    np.testing.assert_array_equal(text.window(stored(SENTENCES[3] * 4)), whole[:5])


def test_case_is_folded_unless_asked_not_to():
    folded, kept = fitted(), fitted(lowercase=False)
    assert folded.window(stored("LOUD")).tolist() == folded.window(stored("loud")).tolist()
    assert kept.window(stored("LOUD")).tolist() != kept.window(stored("loud")).tolist()


def test_the_vocabulary_keeps_its_size(text):
    assert text.tokenizer.get_vocab_size() <= 300
    assert text.front_end(STORED).shape.channel == 64
    assert fitted(vocab_size=258).tokenizer.get_vocab_size() == 258


def test_a_vocabulary_of_nothing_is_the_bytes():
    text = Text()
    text.fit([], np.random.default_rng(0))
    assert text.tokenizer.get_vocab_size() == 258
    assert len(text.window(stored("abc"))) == 4  # a space goes before the first word


def test_what_was_fitted_comes_back_from_its_file(text):
    files = text.files()
    assert list(files) == ["tokenizer.json", "counts.json"]
    again = Text(vocab_size=300)
    again.restore(files)
    for sentence in [*SENTENCES, "something else 😀"]:
        np.testing.assert_array_equal(again.window(stored(sentence)), text.window(stored(sentence)))
    assert again.files() == files


def test_the_file_alone_gives_the_same_ids():
    """A pipeline has `tokenizers` and this file, not us: cutting and folding must be in it."""
    text = fitted(max_tokens=6)
    alone = Tokenizer.from_str(text.files()["tokenizer.json"].decode())
    for sentence in ["The SIGNAL rises and falls and rises and falls", "[pad] nothing", "ü"]:
        assert alone.encode(sentence).ids == text.window(stored(sentence)).tolist()


def test_training_twice_gives_equal_bytes_in_another_process_too(text):
    assert fitted(vocab_size=300).files() == text.files()
    code = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "modalities" / "text")!r})
from vocabulary import train_vocabulary
made = train_vocabulary(json.loads(sys.argv[1]), size=300, min_frequency=2, max_tokens=64, lowercase=True)
sys.stdout.write(made.to_str())
"""
    for seed in ("0", "77"):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(SENTENCES)], capture_output=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.stdout == text.files()["tokenizer.json"]


def test_before_fitting_it_says_so():
    for use in (lambda: Text().window(stored("a")), lambda: Text().front_end(STORED), Text().files):
        with pytest.raises(ConfigError, match="fitted"):
            use()


def test_a_foreign_file_is_refused():
    with pytest.raises(DataError, match="must come with tokenizer"):
        Text().restore({})
    with pytest.raises(DataError, match="must be a tokenizer"):
        Text().restore({"tokenizer.json": b"{}"})


def test_options_are_checked_by_the_registry():
    assert modalities.build("text", {"vocab_size": 500, "width": 16}).width == 16
    with pytest.raises(ValueError, match="258"):
        modalities.build("text", {"vocab_size": 100})
