"""Who made the audio, in one text file: package, version, licence, where the copyright file is, how many clips."""

import os
import pathlib
from collections import Counter
from collections.abc import Sequence

from alp_jax.core import files
from alp_jax.core.clip import Clip
from alp_jax.corpora import apt, mini

_TEXT_ONLY = ("asterisk-core-sounds-en",)  # transcripts that become captions


def write(cache_dir: str | os.PathLike, clips: Sequence[Clip], out: str | os.PathLike) -> str:
    """Writes the credits of the packages that ``clips`` came from to ``out`` and returns the text.

    The copyright files stay in the cache; the text says where. Package names are read from the clip ids.
    """
    cache = pathlib.Path(cache_dir).absolute()
    counts = Counter(clip.id.removeprefix("mini-").split(":", 1)[0] for clip in clips)
    counts.update({package: 0 for package in _TEXT_ONLY if (cache / "raw" / package).is_dir()})
    table = mini.package_table()["packages"]
    blocks = [
        "CREDITS of the mini corpus\n\nAudio comes from the Debian packages below and stays under their licences. "
        "Names of the makers are in the copyright files."
    ]
    for package in sorted(counts):
        root = cache / "raw" / package
        stamp = apt.read_stamp(root)
        copyright_file = root / "usr" / "share" / "doc" / package / "copyright"
        where = copyright_file.relative_to(cache).as_posix() if copyright_file.is_file() else "not in the package"
        version = stamp["version"]
        if stamp["pin"] and stamp["pin"] != version:
            version += f" (listed: {stamp['pin']})"
        blocks.append(
            f"{package} {version}\n  licence: {table[package]['license']}\n  copyright file: {where}\n"
            f"  sha256: {stamp['sha256']}\n  clips: {counts[package] or 'none, text only'}"
        )
    text = "\n\n".join(blocks) + "\n"
    files.write_text(out, text)
    return text
