"""Turns a folder of audio files into one file of vectors; an interrupted run can be continued.

Files are processed in parts, in the order of their relative paths. Until all are done, ``<out>.parts`` holds
``embed.json`` (what the vectors depend on) and ``part-k.npz`` for every finished part; then the parts become ``out`` in
one move and the folder is removed.
"""

import itertools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from alp_jax.core import files
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.progress import Progress, say
from alp_jax.data.audio import reader
from alp_jax.data.audio.listing import AudioFile, list_audio
from alp_jax.data.audio.pool import Failure, decode_files
from alp_jax.evaluation.embedding import embed_files
from alp_jax.evaluation.embedding.embed import EmbedSettings, check_pooling, embed
from alp_jax.evaluation.model import EvalModel

VERSION = 1
PART_FILES, PART_BYTES = 256, 64 << 20  # size of a part; an interruption loses the work on one part at most


def embed_folder(
    model: EvalModel,
    folder: str | os.PathLike,
    out: str | os.PathLike,
    settings: EmbedSettings,
    *,
    depends_on: Sequence = (),
    max_seconds: float = 1800.0,
    workers: int = 2,
) -> dict:
    """Writes the vectors of all audio files below ``folder`` to ``out`` (.npz or .parquet, see ``embed_files``).

    Files that cannot be used are named on standard error and listed in ``out``. Work that an earlier call finished,
    all of it or some parts, is not repeated.

    Args:
      depends_on: what the vectors depend on besides the model's parameters, as JSON.
      max_seconds: longer files are not used; a worker needs up to 1 GB for an hour at 44.1 kHz.
      workers: number of decoding processes; it does not change results.

    Returns:
      ``out``, ``files``, ``embedded``, ``failed``, ``reasons`` (reason -> count), ``others`` (extension -> count),
      ``seconds`` (embedded audio) and ``width``.

    Raises:
      UserError: bad settings, no audio, or ``out`` or its parts come from another model, other settings or other files.
      AlpError: no file could be used; nothing is left behind.
    """
    settings.check()
    check_pooling(model, settings.pooling)
    if not reader.Limits().min_seconds <= max_seconds < float("inf") or workers < 1:
        raise UserError(f"max_seconds {max_seconds:g} must be at least 0.1 and workers {workers} at least 1")
    out, root = pathlib.Path(out), pathlib.Path(folder)
    embed_files.check_name(out)
    audio_files, others = list_audio(root)
    identity = {
        "version": VERSION,
        "model": fingerprint([model.identity, *depends_on]) if depends_on else model.identity or model.name,
        "settings": [settings.pooling, settings.window, settings.stride, max_seconds],
        "files": fingerprint([[file.path, file.size, file.mtime_ns] for file in audio_files]),
    }
    parts_dir = out.with_name(out.name + ".parts")
    if out.exists():
        _check_same(out, embed_files.read_identity(out), identity)
    else:
        _claim(parts_dir, identity)
        parts = list(_cut(audio_files))
        _work(model, root, parts, parts_dir, settings, reader.Limits(max_seconds=max_seconds), workers)
        paths = [parts_dir / _name(number) for number in range(len(parts))]
        if not any(embed_files.read_part(path).count for path in paths):
            summary = ", ".join(f"{n} {reason}" for reason, n in sorted(embed_files.reasons(paths).items()))
            shutil.rmtree(parts_dir)
            raise AlpError(f"none of the {len(audio_files)} audio files in {root} could be used: {summary}")
        embed_files.join(paths, out, identity)
    shutil.rmtree(parts_dir, ignore_errors=True)
    return {"out": str(out), "files": len(audio_files), "others": others, **embed_files.summary(out)}


def describe(result: dict) -> str:
    """What ``embed_folder`` returned, in one to three lines for people."""
    hours = result["seconds"] / 3600
    lines = [f"{result['out']}: {result['embedded']} files, {hours:.2f} h, vectors of {result['width']}"]
    if result["failed"]:
        counts = ", ".join(f"{count} {reason}" for reason, count in result["reasons"].items())
        lines.append(f"not embedded: {result['failed']} of {result['files']} files ({counts})")
    if result["others"]:
        counts = ", ".join(f"{count} {extension}" for extension, count in result["others"].items())
        lines.append(f"skipped, not audio by their extension: {counts}")
    return "\n".join(lines)


def _check_same(where: pathlib.Path, stored: dict | None, identity: dict) -> None:
    if stored is None:
        raise UserError(f"{where} exists and is not from alp embed: choose another --out")
    differ = [name for name in identity if stored.get(name) != identity[name]]
    if differ:
        raise UserError(
            f"{where} was made by a job that differs in {' and '.join(differ)}: remove it or choose another --out"
        )


def _claim(parts_dir: pathlib.Path, identity: dict) -> None:
    """Marks the folder of parts as belonging to this job; UserError if it belongs to another."""
    description = parts_dir / "embed.json"
    if description.exists():
        _check_same(parts_dir, files.read_object(description), identity)
    elif parts_dir.exists() and any(parts_dir.iterdir()):
        raise UserError(f"{parts_dir} exists and is not from alp embed: choose another --out")
    else:
        try:
            files.write_json(description, identity)
        except OSError as error:
            raise UserError(f"{parts_dir} cannot be written: {error.strerror}") from None


def _name(number: int) -> str:
    return f"part-{number:05}.npz"


def _cut(audio_files: Sequence[AudioFile]) -> Iterator[list[AudioFile]]:
    """Parts of at most PART_FILES files; one also ends with the file that brings it to PART_BYTES bytes."""
    part, size = [], 0
    for file in audio_files:
        part.append(file)
        size += file.size
        if len(part) == PART_FILES or size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _work(
    model: EvalModel,
    root: pathlib.Path,
    parts: list[list[AudioFile]],
    parts_dir: pathlib.Path,
    settings: EmbedSettings,
    limits: reader.Limits,
    workers: int,
) -> None:
    """Writes the parts that do not exist yet."""
    todo = [number for number in range(len(parts)) if not (parts_dir / _name(number)).exists()]
    waiting = [file for number in todo for file in parts[number]]
    decoded = decode_files([str(root / file.path) for file in waiting], limits, workers=workers)
    try:
        size = sum(file.size for file in waiting)  # progress goes by bytes, as files differ in length
        with Progress(f"embed with {model.name}", len(waiting), "files", work=size) as progress:
            read_s = 0.0

            def tell(file: AudioFile, seconds: float) -> None:
                nonlocal read_s
                read_s += seconds
                progress.update(note=f"{read_s / 3600:.2f} h of audio", work=file.size)

            for number in todo:
                part = parts[number]
                sounds = zip(part, itertools.islice(decoded, len(part)), strict=True)
                _write_part(model, sounds, settings, parts_dir / _name(number), tell)
    finally:
        decoded.close()


def _write_part(
    model: EvalModel,
    sounds: Iterator[tuple[AudioFile, np.ndarray | Failure]],
    settings: EmbedSettings,
    path: pathlib.Path,
    tell: Callable[[AudioFile, float], None],
) -> None:
    good: list[tuple[str, float]] = []
    bad: list[tuple[str, str, str]] = []

    def fail(file_path: str, reason: str, detail: str) -> None:
        bad.append((file_path, reason, detail))
        say(f"not embedded: {file_path}: {detail}")

    def usable() -> Iterator[tuple[int, np.ndarray]]:
        for file, sound in sounds:
            seconds = 0.0 if isinstance(sound, Failure) else len(sound) / SAMPLE_RATE
            tell(file, seconds)
            if isinstance(sound, Failure):
                fail(file.path, *sound)
                continue
            good.append((file.path, seconds))
            yield len(good) - 1, sound

    vectors = embed(model, usable(), settings)
    kept = []
    for number, (file_path, seconds) in enumerate(good):
        if not np.isfinite(vectors[number]).all():
            fail(file_path, "non_finite", "non_finite: the encoder's output is not finite")
        else:
            kept.append((file_path, seconds, vectors[number]))
    embed_files.write_part(path, kept, sorted(bad))
