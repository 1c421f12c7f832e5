"""Folders by name below the one given, files by subject in natural order."""

import pytest

from fusionkit.core.errors import DataError
from fusionkit.data.folders import find_folders, has_folder, subject_files, the_folder


def test_the_nearest_folder_of_a_name_is_found(tmp_path):
    (tmp_path / "a" / "b" / "eeg").mkdir(parents=True)
    (tmp_path / "a" / "eye").mkdir()
    assert find_folders(tmp_path, ["eeg", "eye", "none"]) == {
        "eeg": (tmp_path / "a" / "b" / "eeg").resolve(),
        "eye": (tmp_path / "a" / "eye").resolve(),
    }
    assert the_folder(tmp_path / "a" / "b" / "eeg", "eeg") == (tmp_path / "a" / "b" / "eeg").resolve()
    (tmp_path / "a" / "eeg").mkdir()
    assert the_folder(tmp_path, "eeg") == (tmp_path / "a" / "eeg").resolve()


def test_what_lies_too_deep_is_not_looked_for(tmp_path):
    (tmp_path / "a" / "b" / "c" / "eeg").mkdir(parents=True)
    assert find_folders(tmp_path, ["eeg"]) == {}
    assert find_folders(tmp_path, ["eeg"], depth=4)
    with pytest.raises(DataError, match="there must be a folder eeg here or below, but there is none"):
        the_folder(tmp_path, "eeg")


def test_two_of_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "eeg").mkdir(parents=True)
    with pytest.raises(DataError, match=r"there must be one folder eeg, but there are .*a.eeg and .*b.eeg"):
        the_folder(tmp_path, "eeg")
    assert not has_folder(tmp_path, ["eeg"])


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: must be a folder, but is a file"):
        find_folders(tmp_path / "file", ["eeg"])
    with pytest.raises(DataError, match="gone: no such folder"):
        find_folders(tmp_path / "gone", ["eeg"])
    assert not has_folder(tmp_path / "file", ["eeg"])


def test_files_come_by_subject_in_natural_order(tmp_path):
    for name in ("10_2.mat", "2_10.mat", "2_9.mat", "b_1.mat", "label.mat", ".hidden.mat", "note.txt"):
        (tmp_path / name).write_text("")
    found = subject_files(tmp_path, r"(.+)_(\d+)\.mat", "1_1.mat", ignored=["label.mat"])
    assert [(file.subject, file.rest) for file in found] == [("2", "9"), ("2", "10"), ("10", "2"), ("b", "1")]
    assert found[0].path == tmp_path / "2_9.mat"
    (tmp_path / "1_1 (copy).mat").write_text("")
    with pytest.raises(DataError, match=r"must look like 1_1\.mat, but is 1_1 \(copy\)\.mat"):
        subject_files(tmp_path, r"(.+)_(\d+)\.mat", "1_1.mat", ignored=["label.mat"])


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"there must be files like 1_1\.npz, but there are none"):
        subject_files(tmp_path, r"(.+)_(\d+)\.npz", "1_1.npz")
