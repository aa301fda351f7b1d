"""Shards written without worker processes."""

import pytest

from alp_jax.data.building import worker
from tests.data.building.clips import run_inline


@pytest.fixture
def inline(monkeypatch):
    """Shards are written in this process: for tests that are not about processes."""
    monkeypatch.setattr(worker, "run", run_inline)
