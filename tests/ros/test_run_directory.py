import pytest

from mbrl_ros.run_directory import create_run_dir


def test_two_runs_in_the_same_second_get_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert create_run_dir() != create_run_dir()
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_folder_that_holds_a_summary_is_not_used_again(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="run_dir: expected a folder without the summary of another run"):
        create_run_dir(str(tmp_path))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="run_dir: expected a folder, got"):
        create_run_dir(str(tmp_path / "file"))
