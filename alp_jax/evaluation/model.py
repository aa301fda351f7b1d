"""All that evaluators know about a model: functions of arrays, so that any encoder can be measured."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class EvalModel:
    """A frozen encoder as (jitted) functions on padded batches.

    Attributes:
      name: what the model is called in results: ``<run>@<step>``.
      frames: (audio_BS int16 at 16 kHz, audio_len_B int32) -> (frames_BTD float, len_B int32); the frames of a clip
        do not depend on padding or on the rest of the batch.
      pool_audio: (frames_BTD, len_B) -> embed_BE, in the space in which audio and text are compared; None when the
        model has no such space. It takes frames, not audio, so that the encoder runs once per clip.
      embed_text: (text_BL int32 token ids without special tokens, text_len_B int32, SpecialTokens) -> embed_BE, in the
        same space; None when the model has no text tower.
      identity: changes when the parameters change; empty where ``name`` alone identifies them.
      caption: (frames_BTD, len_B, SpecialTokens, beams, tokens) -> tokens_BL int32, PAD from the end on; None when the
        model has no decoder.
      project_audio: (frames_BTD, len_B) -> projected_BE float32, the mean over frames that ``pool_audio`` scales to
        unit length, so that the pieces of a long clip can be joined; None when ``pool_audio`` is.
    """

    name: str
    frames: Callable[..., tuple[Any, Any]]
    pool_audio: Callable[..., Any] | None = None
    embed_text: Callable[..., Any] | None = None
    identity: str = ""
    project_audio: Callable[..., Any] | None = None
    caption: Callable[..., Any] | None = None

    @property
    def compares_text(self) -> bool:
        """Whether audio and text embeddings can be compared directly."""
        return self.pool_audio is not None and self.embed_text is not None
