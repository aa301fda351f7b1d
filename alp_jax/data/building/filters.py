"""Optional rules for the captions of training clips; off by default, and recorded in ``dataset.json``."""

import collections
import dataclasses
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.data.text import artefacts


@dataclasses.dataclass(frozen=True)
class CaptionFilter:
    """Which captions of training clips are kept; evaluation splits are never touched.

    Attributes:
      min_words, max_words: limits on words separated by white space; 0 means no limit.
      min_ascii: share of the characters that must be ASCII, 0 to 1.
      no_defects: whether to drop captions with a defect of ``artefacts.DEFECTS``, such as a language model's refusal.
    """

    min_words: int = 0
    max_words: int = 0
    min_ascii: float = 0.0
    no_defects: bool = False

    def __post_init__(self):
        for name in ("min_words", "max_words", "min_ascii"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} = {getattr(self, name)}: must not be negative")
        if 0 < self.max_words < self.min_words:
            raise UserError(f"max_words = {self.max_words}: must be at least min_words = {self.min_words}")
        if self.min_ascii > 1:
            raise UserError(f"min_ascii = {self.min_ascii}: must be a share, at most 1")

    def why_not(self, caption: str) -> str:
        """Why a caption is not kept: ``too_few_words``, ``too_many_words``, ``not_ascii``; "" when it is."""
        words = len(caption.split())
        if words < self.min_words:
            return "too_few_words"
        if 0 < self.max_words < words:
            return "too_many_words"
        if sum(map(str.isascii, caption)) < self.min_ascii * len(caption):
            return "not_ascii"
        return ""

    def apply(self, clips: Sequence[Clip], dropped: collections.Counter) -> list[Clip | None]:
        """Every clip with the captions it keeps; None when it had some and keeps none. ``dropped`` counts reasons."""
        if self == CaptionFilter():
            return list(clips)
        train = [clip for clip in clips if clip.split == "train"]
        texts = [caption for clip in train for caption in clip.captions]
        reasons = [self.why_not(caption) for caption in texts]
        if self.no_defects:
            for position, name in artefacts.find(texts):
                if name in artefacts.DEFECTS and not reasons[position]:
                    reasons[position] = name
        dropped.update(filter(None, reasons))
        reason = iter(reasons)
        return [clip if clip.split != "train" else _keep(clip, [next(reason) for _ in clip.captions]) for clip in clips]


def _keep(clip: Clip, reasons: Sequence[str]) -> Clip | None:
    kept = tuple(caption for caption, reason in zip(clip.captions, reasons, strict=True) if not reason)
    if len(kept) == len(clip.captions):
        return clip
    return dataclasses.replace(clip, captions=kept) if kept else None
