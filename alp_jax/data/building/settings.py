"""What decides the content of a data set besides its clips."""

import dataclasses

from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.data.audio import reader
from alp_jax.data.building import plan
from alp_jax.data.building.filters import CaptionFilter
from alp_jax.data.store import records

_LONGEST_S = 60_000.0  # seconds; samples and bytes of such a clip still fit the index


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """What decides the content of a data set besides its clips.

    Attributes:
      codec: ``flac`` or ``pcm``.
      shards: number of shards; 0 chooses 256 clips a shard and at most 1024 shards.
      limits: limits of a clip.
      dedupe: ``source``, ``all`` or ``none``: among which clips a stretch of a recording, and a sound, may be used
        only once.
      captions: which captions of training clips are kept.
    """

    codec: str = "flac"
    shards: int = 0
    limits: reader.Limits = dataclasses.field(default_factory=reader.Limits)
    dedupe: str = "source"
    captions: CaptionFilter = dataclasses.field(default_factory=CaptionFilter)

    def __post_init__(self):
        choose(self.codec, records.CODECS, "codec")
        choose(self.dedupe, plan.DEDUPE, "dedupe")
        if self.shards < 0:
            raise UserError(f"shards = {self.shards}: must not be negative")
        if not 0 < self.limits.min_seconds <= self.limits.max_seconds:
            limits = self.limits
            raise UserError(f"max_seconds = {limits.max_seconds}: must be at least min_seconds = {limits.min_seconds}")
        if self.limits.max_seconds > _LONGEST_S:
            raise UserError(f"max_seconds = {self.limits.max_seconds}: must be at most {_LONGEST_S:g}")

    @classmethod
    def of(cls, **settings) -> "BuildSettings":
        """Settings from keywords, ``min_seconds`` and ``max_seconds`` for ``limits``; UserError names a bad one."""
        limits = {name: settings.pop(name) for name in ("min_seconds", "max_seconds") if name in settings}
        return cls(**settings, limits=reader.Limits(**limits))
