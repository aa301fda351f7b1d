"""Clips as columns."""

from collections import Counter

import pytest

from alp_jax.core.clip import Clip
from alp_jax.data.audit import columns


@pytest.fixture
def clips_as_columns():
    """Returns ``make(*clips)`` where a clip is a dict of the fields of Clip that matter; one block."""

    def make(*clips, rejected=None):
        full = [
            Clip(**({"id": f"c:{i}", "source": "c", "recording": f"c:{i}", "audio_path": ""} | clip))
            for i, clip in enumerate(clips)
        ]
        ((block, _),) = columns.of_clips(full, rejected or Counter())
        return block

    return make
