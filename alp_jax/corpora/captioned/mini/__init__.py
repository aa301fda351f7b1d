"""The mini corpus: real speech, sounds, drum hits and music from Debian packages, captioned and split by group.

Only packages are downloaded, by name; it takes no account, no root and no web page. ``packages.json`` lists the tiers
(each holds the ones before it) with the versions that were measured.
"""

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from alp_jax.core import files
from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.corpora.captioned.mini import (
    apt,
    asterisk,
    captions,
    containers,
    drums,
    music,
    sounds,
    splits,
    voices,
    words,
)
from alp_jax.corpora.captioned.mini.headers import probe
from alp_jax.corpora.captioned.mini.item import Item, Tree, table
from alp_jax.corpora.corpus import Corpus, Download

TIERS = ("s", "m", "l")
MIN_SECONDS = 0.05
_TEXT_ONLY = ("asterisk-core-sounds-en",)  # transcripts that become captions
_KINDS: tuple[Callable[[Tree], Iterator[Item]], ...] = (
    asterisk.items, voices.items, words.items, sounds.items, drums.items, music.items,
)  # fmt: skip


def packages(tier: str = "s") -> tuple[str, ...]:
    """The packages of a tier and of the tiers below it."""
    choose(tier, TIERS, "tier")
    lists = table("packages")["tiers"]
    return tuple(name for t in TIERS[: TIERS.index(tier) + 1] for name in lists[t])


def fetch(cache_dir: str | os.PathLike, tier: str = "s", runner: apt.Runner = apt.run_command) -> dict[str, dict]:
    """Downloads and unpacks a tier, keeping what is there already. See ``apt.fetch_packages`` for result and errors."""
    cache = pathlib.Path(cache_dir).absolute()
    listed = table("packages")["packages"]
    names = packages(tier)
    result = apt.fetch_packages(names, cache, {name: listed[name]["version"] for name in names}, runner)
    present = [name for name in names if "missing" not in result[name]]
    with Progress("unpack archives", len(present), "packages") as progress:
        for name in present:
            containers.unpack(cache / "raw" / name, cache / "unpacked" / name)
            progress.update(1, name)
    return result


def collect(cache_dir: str | os.PathLike, tier: str = "s") -> tuple[list[Clip], dict]:
    """The clips of a fetched tier, in a fixed order, with an account of what was left out.

    Returns:
      the clips, and {"packages": clips per package (0 when none was recognised), "missing": packages that were not
      fetched, "duplicates", "unreadable", "too_short": files left out}.

    Raises:
      UserError: none of the packages is in ``cache_dir``.
    """
    cache, names = pathlib.Path(cache_dir).absolute(), packages(tier)
    missing = [name for name in names if not all((cache / part / name).is_dir() for part in ("raw", "unpacked"))]
    if len(missing) == len(names):
        raise UserError(f"no mini corpus in {cache}: run `alp data fetch mini --cache {cache}` first")
    tree = Tree(cache, tuple(name for name in names if name not in missing))
    items, counts = _unique(item for kind in _KINDS for item in kind(tree))
    split_of = splits.assign(item for item, _, _ in items)
    kept = splits.kept_labels([item for item, _, _ in items], split_of)
    made = [_clip(item, header, digest, split_of[item.group], kept) for item, header, digest in items]
    per_package = Counter(item.package for item, _, _ in items)
    return made, {"packages": {name: per_package[name] for name in names}, "missing": missing, **counts}


def _unique(items: Iterator[Item]) -> tuple[list[tuple[Item, tuple, str]], dict[str, int]]:
    """Items with readable audio, only the first of equal content, with their headers and content hashes."""
    seen: dict[str, pathlib.Path] = {}
    facts: dict[pathlib.Path, tuple] = {}
    counts = {"duplicates": 0, "unreadable": 0, "too_short": 0}
    unique = []
    for item in items:
        if item.path not in facts:
            facts[item.path] = (probe(item.path), files.sha256(item.path)[:16])
        header, digest = facts[item.path]
        if header is None:
            counts["unreadable"] += 1
        elif header[0] < MIN_SECONDS:
            counts["too_short"] += 1
        elif seen.setdefault(digest, item.path) != item.path:
            counts["duplicates"] += 1
        else:
            unique.append((item, header, digest))
    return unique, counts


def _clip(item: Item, header: tuple, digest: str, split: str, kept: set[tuple[str, str]]) -> Clip:
    seconds, rate, channels = header
    segment = "" if item.segment is None else f"#{item.segment}"
    clip_id = f"mini-{item.package}:{item.relpath}{segment}"
    facts = {
        **item.facts,
        "length": captions.length_word(item.duration_s or seconds),
        "channel": captions.channel_words(rate, channels),
    }
    return Clip(
        id=clip_id,
        source=item.source,
        recording=f"mini:{digest}",
        audio_path=str(item.path),
        start_s=item.start_s,
        duration_s=item.duration_s,
        captions=captions.make(dataclasses.replace(item, facts=facts), clip_id),
        tags=item.tags,
        labels={task: label for task, label in item.labels_in(split).items() if (task, label) in kept},
        split=split,
        group=item.group,
        license=table("packages")["packages"][item.package]["license"],
    )


def write_credits(cache_dir: str | os.PathLike, clips: Sequence[Clip], out: str | os.PathLike) -> str:
    """Writes the credits of the packages that ``clips`` came from to ``out`` and returns the text.

    The copyright files stay in the cache; the text says where. Package names are read from the clip ids.
    """
    cache = pathlib.Path(cache_dir).absolute()
    counts = Counter(clip.id.removeprefix("mini-").split(":", 1)[0] for clip in clips)
    counts.update({package: 0 for package in _TEXT_ONLY if (cache / "raw" / package).is_dir()})
    listed = table("packages")["packages"]
    blocks = [
        "CREDITS of the mini corpus\n\nAudio comes from the Debian packages below and stays under their licences. "
        "Names of the makers are in the copyright files."
    ]
    for package in sorted(counts):
        root = cache / "raw" / package
        stamp = apt.read_stamp(root)
        copyright_file = root / "usr" / "share" / "doc" / package / "copyright"
        copyright_path = (
            copyright_file.relative_to(cache).as_posix() if copyright_file.is_file() else "not in the package"
        )
        version = stamp["version"]
        if stamp["pin"] and stamp["pin"] != version:
            version += f" (listed: {stamp['pin']})"
        blocks.append(
            f"{package} {version}\n  licence: {listed[package]['license']}\n  copyright file: {copyright_path}\n"
            f"  sha256: {stamp['sha256']}\n  clips: {counts[package] or 'none, text only'}"
        )
    text = "\n\n".join(blocks) + "\n"
    files.write_text(out, text)
    return text


CORPUS = Corpus(
    name="mini",
    title="real speech, sounds, drum hits and music from Debian packages, to try everything with",
    metadata="what 'alp data fetch mini' has put into --cache",
    download=Download(fetch, collect, write_credits),
)
