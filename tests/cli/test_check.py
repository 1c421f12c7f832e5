"""A recipe is checked from the command line: fine, or every problem on a line."""

import pytest

from fusionkit.cli import main
from fusionkit.recipe.shipped import shipped_recipes

TEXT = """\
data: {kind: manifest, path: t.csv}
modalities:
  eeg: {kind: eeg}
  voice: {kind: audio}
fusion: {kind: rcft}
tasks: {state: {kind: classification}}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "mine.yaml").write_text(text)
        return "mine.yaml"

    return write


def test_a_sound_recipe_is_summed_up(recipe, capsys):
    assert main(["check", recipe(TEXT), "train.epochs=3"]) == 0
    assert capsys.readouterr().out == (
        "mine.yaml: ok\nsensors: eeg (eeg), voice (audio)\nfusion: fused (rcft, intermediate)\n"
        "tasks: state (classification)\n"
    )


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_sound(name, capsys):
    assert main(["check", name]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert shown.startswith(f"{name}.yaml: ok\n")
    assert ("to give on the command line: data.path=VALUE" in shown) == ("???" in shipped_recipes()[name])
    assert len(shipped_recipes()[name].splitlines()) < 40


def test_every_problem_is_a_line_on_stderr(recipe, capsys):
    text = TEXT.replace("rcft", "rctf").replace("voice: {kind: audio}", "voice: {kind: audio, melz: 3}")
    assert main(["check", recipe(text), "train.epoch=3"]) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert [line.split(": ")[:3] for line in lines] == [
        ["error", "mine.yaml:4", "modalities.voice.melz"],
        ["error", "mine.yaml:5", "fusion.kind"],
        ["error", "command line", "train.epoch"],
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", "mine.yaml: a recipe must be a mapping (name: ..., data: ...), but this is a list"),
        ("a: 1\na: 2\n", "mine.yaml:2: a: a key may be given once, but it is on line 1 too"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"b{i}: &{'bcdefg'[i]} [{','.join(['*' + 'abcdef'[i]] * 10)}]\n" for i in range(6)),
            "mine.yaml:4: a recipe may hold 10000 values, but its aliases expand to more",
        ),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(recipe, capsys, text, line):
    assert main(["check", recipe(text)]) == 2
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_a_missing_file_is_one_line(recipe, capsys):
    assert main(["check", "no.yaml"]) == 2
    assert capsys.readouterr().err == (
        "error: no.yaml: a recipe must be a file that can be read, but No such file or directory\n"
    )


def test_what_a_generator_will_append_is_summed_up(recipe, capsys):
    generator = "augment.eeg={kind: cwgan_gp, add: 2, use: selective}"
    assert main(["check", recipe(TEXT), generator]) == 0
    assert (
        "augment.eeg: cwgan_gp appends 2 records for a training record by state, kept where the network is sure by 0.9\n"
        in capsys.readouterr().out
    )
