"""The file of floors that runs share."""

import json

import pytest

from alp_jax.core.errors import UserError
from alp_jax.evaluation.stats.floors import shared_floors


def test_only_missing_floors_are_computed_and_other_data_is_left_alone(tmp_path):
    path, asked = tmp_path / "floors.json", []
    path.write_text(json.dumps({"ours": {"kind": {"accuracy": 0.5}}, "theirs": {"kind": {"accuracy": 0.1}}}))

    def compute(names):
        asked.extend(names)
        return {"tags": {"map": 0.25}}

    floors = shared_floors(path, "ours", ["kind", "tags", "other"], compute)
    assert asked == ["tags", "other"]
    assert floors == {"kind": {"accuracy": 0.5}, "tags": {"map": 0.25}, "other": {}}
    assert json.loads(path.read_text()) == {"ours": floors, "theirs": {"kind": {"accuracy": 0.1}}}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", " is not a JSON object"),
        ('{"ours": 3}', ": ours does not hold floors by task"),
        ('{"ours": {"kind": 0.5}}', ": ours does not hold floors by task"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, why):
    path = tmp_path / "floors.json"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"^floors file .*floors\.json{why}"):
        shared_floors(path, "ours", ["kind"], lambda names: pytest.fail("computed"))
