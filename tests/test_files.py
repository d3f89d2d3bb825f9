import hashlib
import json
import os

import pytest

from dim.files import locked, replacing, sha256, write_json


def test_content_appears_whole(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json(path, {"a": [1, 2.5]})
    assert json.loads(path.read_text()) == {"a": [1, 2.5]}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_an_error_leaves_the_old_content_and_no_debris(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted():
        with replacing(path, "w") as file:
            file.write("new")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_numbers_that_json_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_a_lock_is_for_one_and_leaves_its_file_alone(tmp_path):
    path = tmp_path / "new" / "file.json"
    with locked(path, 0.0) as first, locked(path, 0.0) as second:
        assert first is not None
        assert second is None
        assert not path.exists()
    with locked(path, 0.0) as third:
        assert third is not None


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    umask = os.umask(0o027)
    try:
        write_json(tmp_path / "shared.json", {})
    finally:
        os.umask(umask)
    assert (tmp_path / "shared.json").stat().st_mode & 0o777 == 0o640
