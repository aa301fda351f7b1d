"""Clips that could not be told apart or placed are refused where they are made."""

import pytest

from alp_jax.core.clip import Clip


@pytest.mark.parametrize(("field", "value"), [("split", "dev"), ("id", ""), ("source", ""), ("recording", "")])
def test_bad_fields_are_named(field, value):
    fields = {"id": "a:1", "source": "a", "recording": "a:1", "audio_path": "x.wav", field: value}
    with pytest.raises(ValueError, match=field):
        Clip(**fields)
