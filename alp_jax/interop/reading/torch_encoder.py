"""Audio encoders of Hugging Face transformers (wav2vec 2.0, HuBERT, WavLM, AST, ...), frozen, for the evaluation."""

import hashlib
import pathlib

import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.evaluation.model import EvalModel
from alp_jax.interop.isolated.process import require

_SHORTEST = 1_600  # samples; shorter clips are padded with zeros, since convolutions would leave no frame of them


def torch_encoder(folder: str | pathlib.Path) -> EvalModel:
    """The model in ``folder`` (config.json, preprocessor_config.json, safetensors) with its own preprocessing.

    Frames are its last hidden states. Clips go through one by one, as such models depend on padding. Code in the folder
    is not run and weights in other formats are not read.

    Raises:
      UserError: torch or transformers is not installed, or the folder holds no audio encoder for 16 kHz.
    """
    require("torch", "transformers", user="--hf", extras="torch,hf")
    import torch
    import transformers

    folder = pathlib.Path(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        lacking = "*.safetensors" if (folder / "config.json").is_file() else "config.json"
        raise UserError(f"--hf {folder} has no {lacking}: give the folder of a transformers model with safetensors")
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        prepare = transformers.AutoFeatureExtractor.from_pretrained(folder, **safe)
        model = transformers.AutoModel.from_pretrained(folder, use_safetensors=True, **safe)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--hf {folder} cannot be loaded: {' '.join(str(error).split())}") from None
    if (rate := getattr(prepare, "sampling_rate", "no rate")) != SAMPLE_RATE:
        raise UserError(f"--hf {folder}: its preprocessor is for {rate}, not {SAMPLE_RATE}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().to(device)

    def hidden(wave_S: np.ndarray) -> np.ndarray:
        wave_S = np.pad(wave_S.astype(np.float32) / 32768, (0, max(0, _SHORTEST - len(wave_S))))
        inputs = prepare(wave_S, sampling_rate=SAMPLE_RATE, return_tensors="pt").to(device)
        with torch.inference_mode():
            return model(**inputs).last_hidden_state[0].float().cpu().numpy()

    def frames(audio_BS, audio_len_B):
        clips = [hidden(wave_S[:length]) for wave_S, length in zip(audio_BS, audio_len_B, strict=True)]
        frames_BTD = np.zeros((len(clips), max(map(len, clips)), clips[0].shape[1]), np.float32)
        for row, clip_TD in zip(frames_BTD, clips, strict=True):
            row[: len(clip_TD)] = clip_TD
        return frames_BTD, np.array([len(clip_TD) for clip_TD in clips], np.int32)

    identity = hashlib.sha256()
    for path in (folder / "config.json", *weights):
        identity.update(path.read_bytes())
    return EvalModel(name=folder.resolve().name, frames=frames, identity=identity.hexdigest())
