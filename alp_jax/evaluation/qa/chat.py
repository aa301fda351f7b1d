"""A sound and a question in the chat format of Qwen2.5, as arrays: which positions are words and which are sound.

<|im_start|>system ... <|im_end|> <|im_start|>user (sound) question <|im_end|> <|im_start|>assistant answer <|im_end|>
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.data.text.json_tokenizer import JsonTokenizer
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.models.qwen import QwenConfig

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
# The tokens that begin and end a turn. Qwen has none for the beginning of a text or for a mask; others stand in.
_ROLES = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "mask_token": "<|endoftext|>",
}


def read_chat_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """The tokenizer of a Qwen2.5 folder; a special token that is spelt out in a question stays plain text.

    Raises:
      UserError: the file, one of the chat's tokens or the package ``tokenizers`` is missing.
    """
    path = pathlib.Path(folder) / "tokenizer.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return JsonTokenizer(data, _ROLES, f"tokenizer {path}")


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A frozen language model and its tokenizer.

    Attributes:
      params: of ``Qwen``, as ``functionalize`` takes them, in ``dtype``.
      dtype: ``float32`` or ``bfloat16``, for storage and computation.
    """

    config: QwenConfig
    params: dict[str, Any]
    tokenizer: Tokenizer
    dtype: str = "float32"

    def __post_init__(self):
        if self.tokenizer.vocab_size > self.config.vocab_size:
            raise UserError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, config.json says vocab_size = "
                f"{self.config.vocab_size}: they do not belong to the same model"
            )

    @property
    def identity(self) -> str:
        """Changes with the sizes, the vocabulary and (by their norms) the weights."""
        norms = [layer["input_layernorm"]["scale"] for layer in self.params["layers"].values()]
        norms.append(self.params["norm"]["scale"])
        texts = [np.asarray(norm, np.float32).tobytes().hex() for norm in norms]
        return fingerprint([dataclasses.asdict(self.config), self.tokenizer.sha256, texts])


class Dialogue(NamedTuple):
    """Token ids before and after a sound, and those of the reply."""

    before: list[int]
    after: list[int]
    reply: list[int]

    def length(self, sound: int) -> int:
        """The number of positions if the sound takes ``sound`` of them."""
        return len(self.before) + sound + len(self.after) + len(self.reply)


def dialogue(tokenizer: Tokenizer, prompt: str, answer: str | None = None) -> Dialogue:
    """A question, and the answer to learn (with its end token) if there is one."""
    begin, end, encode = [tokenizer.bos_id], [tokenizer.eos_id], tokenizer.encode
    line = end + encode("\n")
    before = begin + encode(f"system\n{SYSTEM}") + line + begin + encode("user\n")
    after = encode(f"\n{prompt}") + line + begin + encode("assistant\n")
    return Dialogue(before, after, [] if answer is None else encode(answer) + end)


class Batch(NamedTuple):
    """Dialogues side by side, padded on the right.

    Attributes:
      token_BL: token ids; 0 at positions of sound.
      sound_BL: the position of the row's sound that belongs there; -1 at positions of words.
      len_B: number of valid positions.
      target_BA: the tokens of the replies, padded; ``at_BA`` is the position before each, ``weight_BA`` is 1 for them.
    """

    token_BL: np.ndarray
    sound_BL: np.ndarray
    len_B: np.ndarray
    target_BA: np.ndarray
    at_BA: np.ndarray
    weight_BA: np.ndarray


def lay_out(dialogues: Sequence[Dialogue], sound_B: Sequence[int], length: int, replies: int) -> Batch:
    """Rows of ``length`` positions with room for ``replies`` tokens of reply.

    Args:
      sound_B: positions of each row's sound.
    """
    rows = len(dialogues)
    token_BL, sound_BL = np.zeros((rows, length), np.int32), np.full((rows, length), -1, np.int32)
    target_BA, at_BA = np.zeros((rows, replies), np.int32), np.zeros((rows, replies), np.int32)
    weight_BA, len_B = np.zeros((rows, replies), np.float32), np.zeros(rows, np.int32)
    for i, (talk, sound) in enumerate(zip(dialogues, sound_B, strict=True)):
        first, end = len(talk.before), talk.length(sound)
        token_BL[i, :end] = [*talk.before, *[0] * sound, *talk.after, *talk.reply]
        sound_BL[i, first : first + sound] = np.arange(sound)
        count, len_B[i] = len(talk.reply), end
        target_BA[i, :count] = talk.reply
        at_BA[i, :count] = np.arange(end - count, end) - 1
        weight_BA[i, :count] = 1.0
    return Batch(token_BL, sound_BL, len_B, target_BA, at_BA, weight_BA)
