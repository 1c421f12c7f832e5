"""Trees of public data sets as other systems leave them: other case, files of their own, parts missing."""

import pickle
import shutil

import numpy as np
import pytest
import scipy.io

from fusionkit.core.errors import DataError
from fusionkit.core.registry import modalities, sources
from fusionkit.data.sources.seed_iv import SeedIV
from fusionkit.data.sources.source import SensorColumn

KINDS = {
    "seed": ("SEED_EEG", {"features": "de", "window": "trial"}),
    "seed_iv": ("SEED_IV", {"features": "de", "window": "trial"}),
    "seed_v": ("SEED-V", {"window": "trial"}),
    "seed_multimodal": ("SEED_Multimodal", {"window": "trial"}),
    "deap": ("DEAP", {}),
    "dreamer": ("DREAMER", {}),
}


@pytest.fixture(scope="module")
def trees(tree_tool, tmp_path_factory):
    """The six data sets of one person, without the raw samples of SEED and SEED-IV."""
    folder = tmp_path_factory.mktemp("foreign")
    for name in ("seed", "seed_iv", "seed_v", "seed_multimodal", "deap", "dreamer"):
        getattr(tree_tool, name)(str(folder), [1], 0.01)
    for raw in ("SEED_EEG/Preprocessed_EEG", "SEED_IV/eeg_raw_data", "DEAP/data_preprocessed_matlab"):
        shutil.rmtree(folder / raw)
    return folder


def read(kind, path):
    """Every record with its label, and the first values of a few recordings."""
    source = sources.build(kind, {"path": str(path), **KINDS[kind][1]})
    rows, found = source.rows(), {}
    assert type(source).recognises(path)
    for name, entry in source.sensors().items():
        options = {option: value for option, value in entry.items() if option != "kind"}
        sensor = SensorColumn(name, modalities.build(entry["kind"], options), name)
        for row in range(0, len(rows), 7):
            values = source.cell(row, sensor).load(sensor.modality).values
            found[name, rows[row].id] = values[:2].tolist()
    return [(row.id, sorted((name, label or "") for name, label in row.labels.items())) for row in rows], found


def add_litter(tree):
    """What macOS and Windows leave in folders, a hidden copy of every file, and one of every folder in a __MACOSX."""
    for folder in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "ReadMe.txt"):
            (folder / name).write_bytes(b"litter")
    for path in [path for path in tree.rglob("*") if path.is_file() and not path.name.startswith(".")]:
        path.with_name(f"._{path.name}").write_bytes(b"litter")
    for folder in [path for path in tree.iterdir() if path.is_dir()]:
        shutil.copytree(folder, tree / "__MACOSX" / folder.name)
        shutil.copytree(folder, tree / "a" / ".Trash" / folder.name)


def change_case(tree):
    for path in sorted(tree.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.swapcase()))


def change_variables(tree):
    for path in tree.rglob("*.mat"):
        content = scipy.io.loadmat(path)
        scipy.io.savemat(path, {name.swapcase(): value for name, value in content.items() if name[0] != "_"})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *((kind, change) for kind in KINDS for change in (add_litter, change_case)),
        *(("seed", change_variables), ("seed_iv", change_variables)),
    ],
)
def test_the_same_is_read_from_a_tree_that_another_system_has_copied(trees, tmp_path, kind, change):
    tree = tmp_path / KINDS[kind][0]
    shutil.copytree(trees / KINDS[kind][0], tree)
    change(tree)
    records, values = read(kind, tree)
    assert (records, values) == read(kind, trees / KINDS[kind][0])
    assert {sensor for sensor, _ in values} >= {"eeg"}


def test_files_of_deap_may_lie_in_a_folder_of_any_name(trees, tmp_path):
    shutil.copytree(trees / "DEAP" / "data_preprocessed_python", tmp_path / "data")
    source = sources.build("deap", {"path": str(tmp_path / "data")})
    assert len(source.rows()) == 40
    with pytest.raises(DataError, match="there must be a folder data_preprocessed_matlab here or below"):
        sources.build("deap", {"path": str(tmp_path / "data"), "form": "matlab"}).rows()


def test_who_lacks_eye_movement_is_told(tree_tool, tmp_path):
    tree_tool.seed_v(str(tmp_path), [1, 2, 3], 0.01)
    (tmp_path / "SEED-V" / "Eye_movement_features" / "2_123.npz").unlink()
    source = sources.build("seed_v", {"path": str(tmp_path)})
    assert "seed_v: subjects 2 have no eye in some or all of their trials" in source.notes({})


def test_fewer_files_than_others_are_told(trees, tmp_path):
    folder = tmp_path / "ExtractedFeatures_1s"
    shutil.copytree(trees / "SEED_EEG" / "ExtractedFeatures_1s", folder)
    shutil.copy(folder / "1_20131107.mat", folder / "2_20131107.mat")
    source = sources.build("seed", {"path": str(folder), "features": "de"})
    assert any("subjects 2 have fewer files than others" in note for note in source.notes({}))
    with pytest.raises(DataError, match=r"must have trials in common, but \['3'\] and \['2'\] have none"):
        sources.build("seed", {"path": str(folder), "features": "de", "sessions": [3], "subjects": ["2"]}).rows()


def test_one_file_under_two_cases_is_refused(trees, tmp_path):
    folder = tmp_path / "eeg_feature_smooth" / "1"
    shutil.copytree(trees / "SEED_IV" / "eeg_feature_smooth" / "1", folder)
    shutil.copy(folder / "1_20160518.mat", folder / "1_20160518.MAT")
    with pytest.raises(DataError, match=r"a subject's file must be there once, but 1_20160518\.MAT is, too"):
        SeedIV(path=tmp_path, features="de").rows()


def test_a_value_that_is_missing_does_not_hide_the_layout(tree_tool, tmp_path):
    tree_tool.seed_v(str(tmp_path), [1], 0.01, "band_major")
    path = tmp_path / "SEED-V" / "EEG_DE_features" / "1_123.npz"
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    data = pickle.loads(content["data"].tobytes())
    data[3][0, :] = np.nan
    np.savez(path, **{**content, "data": pickle.dumps(data)})
    assert any("band_major" in note for note in sources.build("seed_v", {"path": str(tmp_path)}).notes({}))
