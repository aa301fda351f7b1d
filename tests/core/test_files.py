"""Files are whole or absent, and errors name them."""

import json

import pytest

from alp_jax.core import files
from alp_jax.core.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    with pytest.raises(TypeError):
        files.write_bytes(tmp_path / "a.json", "text")
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", None])
def test_unreadable_json_is_named(tmp_path, content):
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"settings\.json"):
        files.read_json(path)


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_json_that_is_not_an_object_is_named(tmp_path, content):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UserError, match=r"^plan .*plan\.json is not a JSON object$"):
        files.read_object(tmp_path / "plan.json", "plan")


def test_a_folder_is_whole_or_absent_and_replaces_another(tmp_path):
    target = tmp_path / "deep" / "folder"

    def fail():
        with files.whole_folder(target) as made:
            (made / "half").write_text("x")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert list(target.parent.iterdir()) == []
    for name in ("first", "second"):
        with files.whole_folder(target) as made:
            assert not list(made.iterdir())
            (made / name).write_text(name)
        assert [path.name for path in target.iterdir()] == [name]
    assert [path.name for path in target.parent.iterdir()] == ["folder"]
