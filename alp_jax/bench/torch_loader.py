"""A plain PyTorch DataLoader over FLAC files, to compare ours with: shuffled, batches padded to their longest clip."""

import time

import numpy as np
import soundfile

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.cores import processor_seconds
from alp_jax.core.errors import UserError
from alp_jax.data.text.tokenizer import Tokenizer


def time_torch_loader(
    files: list[tuple[str, str]], tokenizer: Tokenizer, *, batch: int, workers: int, max_samples: int, clips: int
) -> dict:
    """The figures of ``loader.time_loader`` for a DataLoader, and its share of padding, from the first batch on.

    It reads as most people write it: the whole file as int16 through libsndfile, and the caption's token ids.

    Args:
      files: (path, caption) of every clip.
      batch: clips in a batch.
      workers: of the DataLoader.
      max_samples: longer clips are cropped at a random position.

    Raises:
      UserError: torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise UserError("--against torch needs PyTorch: pip install 'alp_jax[torch]'") from None

    class Clips(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            path, caption = files[i]
            sound = soundfile.read(path, dtype="int16")[0]
            if len(sound) > max_samples:
                first = int(torch.randint(len(sound) - max_samples + 1, ()))
                sound = sound[first : first + max_samples]
            return torch.from_numpy(sound), torch.tensor(tokenizer.encode(caption), dtype=torch.int32)

    def collate(examples):
        sounds, texts = zip(*examples, strict=True)
        pad = torch.nn.utils.rnn.pad_sequence
        lengths = torch.tensor([len(sound) for sound in sounds])
        return pad(sounds, batch_first=True), lengths, pad(texts, batch_first=True)

    loader = torch.utils.data.DataLoader(
        Clips(),
        batch,
        shuffle=True,
        num_workers=workers,
        collate_fn=collate,
        drop_last=True,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,  # a spawned process would hand spawning down
    )
    done = kept = padded = 0
    start, before = None, 0.0
    while start is None or done < clips:
        for sounds, lengths, _ in loader:
            if start is None:
                start, before = time.perf_counter(), processor_seconds()
                continue
            done, kept, padded = done + len(lengths), kept + int(lengths.sum()), padded + sounds.numel()
            if done >= clips:
                break
    seconds, used = time.perf_counter() - start, processor_seconds() - before
    return {
        "workers": workers,
        "clips": done,
        "clips_per_s": round(done / seconds, 1),
        "audio_s_per_s": round(kept / SAMPLE_RATE / seconds, 1),
        "processor_ms": round(1e3 * used / done, 3),
        "padding": round(float(1 - np.float64(kept) / padded), 4),
    }
