"""Entry points of other distributions: found, and refused in one line when they break or clash."""

import pytest

from alp_jax.core.errors import UserError
from alp_jax.core.plugins import load

GROUP = "alp_jax.toys"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """(distribution, {entry point: object}) -> a distribution on sys.path, with its module ``<distribution>_toys``."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution, points, source="TOY = 1\nOTHER = 2\n"):
        info = tmp_path / f"{distribution}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        lines = [f"{name} = {distribution}_toys:{value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")
        (tmp_path / f"{distribution}_toys.py").write_text(source)

    return install


def test_entry_points_are_loaded_by_name(install):
    assert load(GROUP) == {}
    install("alpha", {"zebra": "TOY", "ant": "OTHER"})
    assert list(load(GROUP).items()) == [("ant", 2), ("zebra", 1)]
    assert load(GROUP, built_in=["bee"]) == load(GROUP)


def test_what_does_not_load_is_named_in_one_line(install):
    install("beta", {"toy": "MISSING"})
    with pytest.raises(UserError, match=r"^entry point 'toy' of distribution 'beta' \(group .*\) does not load: Attr"):
        load(GROUP)
    install("gamma", {"antelope": "TOY"}, source="raise RuntimeError('two\\nlines')")
    with pytest.raises(UserError, match=r"'antelope' of distribution 'gamma' .* RuntimeError: two lines$"):
        load(GROUP)


def test_a_name_belongs_to_one_owner(install):
    install("delta", {"toy": "TOY"})
    with pytest.raises(UserError, match=r"'toy' of distribution 'delta' .* clashes with a built-in name"):
        load(GROUP, built_in=["toy"])
    install("epsilon", {"toy": "OTHER"})
    with pytest.raises(UserError, match=r"'toy' of distribution '(delta|epsilon)' .* clashes with that of"):
        load(GROUP)
