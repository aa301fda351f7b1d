"""Finds, checks and reads corpora by name."""

import dataclasses
import glob
import importlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from alp_jax.core import plugins, storage
from alp_jax.core.clip import SPLITS, Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.corpora import objects
from alp_jax.corpora.catalog import GROUP, modules, names, outside
from alp_jax.corpora.corpus import Clips, Corpus, split_words
from alp_jax.corpora.splits import SplitRule


def get(name: str, label: str = "corpus") -> Corpus:
    """The corpus of that name; errors call it ``label``.

    Raises:
      UserError: the name is unknown, two corpora have it, or its module or entry point defines no such corpus.
    """
    choose(name, names(), label)
    if name in outside():
        corpus, origin = plugins.load(GROUP, modules())[name], f"entry point of the group {GROUP}"
    else:
        origin = modules()[name]
        corpus = getattr(importlib.import_module(origin), "CORPUS", None)
    if not isinstance(corpus, Corpus):
        raise UserError(f"corpus {name!r} ({origin}): expected a Corpus, not {type(corpus).__name__}")
    if corpus.name != name:
        raise UserError(f"corpus {name!r} ({origin}) calls itself {corpus.name!r}")
    return corpus


def fetch(name: str, cache: str, tier: str) -> dict[str, dict]:
    """Downloads a corpus into ``cache``, see ``Download.fetch``; UserError if it cannot be fetched."""
    corpus = get(name)
    if corpus.download is None:
        raise UserError(f"{name} cannot be fetched; 'alp data build {name}' needs {corpus.metadata}")
    return corpus.download.fetch(cache, tier)


def read(
    name: str,
    metadata: Sequence[str | os.PathLike],
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    **options: str,
) -> Clips:
    """The clips of a corpus, streaming, with unusable rows as ``Rejected`` in their place.

    Everything that can be checked without reading the metadata is checked before this returns.

    Args:
      name: one of ``names``.
      metadata: the published files, folders that hold them, or patterns of their names; URLs are copied to the cache
        first. For a user's own data: empty if they lie in the audio folder.
      audio: the audio folder, a path or a URL; None for caption statistics and audits, where ``Clip.audio_path`` is "".
      split: the split of every clip; None: as the metadata or its file names state.
      options: settings of the corpus.

    Raises:
      UserError: unknown name, option or value; files that do not exist; and, while iterating, metadata that is
        not in the published form.
    """
    corpus = get(name)
    if corpus.read is None:
        raise UserError(f"{name} is fetched and then built: it cannot be read from files")
    for key, value in options.items():
        if not corpus.options:
            raise UserError(f"{name} has no options, not {key!r}")
        option = corpus.options[choose(key, corpus.options, f"option of {name}")]
        if option.choices and value != option.default:
            choose(value, option.choices, f"{key} of {name}")
    if split is not None:
        choose(split, SPLITS, "split")
        if corpus.official_split:
            raise UserError(f"{corpus.official_split}: leave out --split")
    if not metadata and not (corpus.containers and audio is not None):
        raise UserError(f"{name} needs --metadata: {corpus.metadata}")
    if not metadata:
        metadata, audio = [audio], None
    if corpus.containers and audio is None and _is_one_folder(metadata):
        audio = metadata[0]
    return corpus.read(_metadata_files(metadata, corpus.suffixes), _audio_root(corpus, audio), split, **options)


def _audio_root(corpus: Corpus, audio: str | os.PathLike | None) -> pathlib.Path | str | None:
    if audio is None:
        return None
    if storage.is_remote(audio):
        if not corpus.remote_audio:
            raise UserError(
                f"{audio} is remote, and {corpus.name} is read from a local folder of audio: copy or mount it"
            )
        if not objects.names(audio):
            raise UserError(f"audio folder {audio} does not exist, or is empty")
        return os.fspath(audio).rstrip("/")
    root = pathlib.Path(os.path.abspath(storage.local(audio)))
    if not root.is_dir():
        raise UserError(f"audio folder {root} does not exist")
    return root


def split_rule(
    name: str,
    metadata: Sequence[str | os.PathLike],
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    **options: str,
) -> SplitRule | None:
    """How ``read`` splits clips whose metadata states no split; None if it states them, or ``split`` is given."""
    corpus = get(name)
    if corpus.split_rule is None:
        return None
    files = _metadata_files(metadata or ([] if audio is None else [audio]), corpus.suffixes)
    return corpus.split_rule(files, split, **options)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A corpus that is about to be built.

    Attributes:
      clips: all clips of a fetched corpus, else a stream of clips and rejected rows.
      left_out: account of what a fetched corpus leaves out; otherwise empty.
      rule: how clips are split if the metadata does not state it.
      corpus, cache: as given by the user.
    """

    clips: Iterable[Clip | Rejected]
    left_out: dict
    rule: SplitRule | None
    corpus: Corpus
    cache: str

    def rule_facts(self) -> dict | None:
        """The rule as ``dataset.json`` records it."""
        return self.rule and self.rule.facts()

    def rule_lines(self, splits: Mapping[str, Mapping]) -> Iterator[str]:
        """How clips are split, as text; for ``splits`` see ``SplitRule.lines``."""
        if self.rule:
            yield from self.rule.lines(splits)

    def left_out_lines(self) -> Iterator[str]:
        """What a fetched corpus leaves out, as text."""
        if self.left_out:
            counts = (f"{n} {key.replace('_', ' ')}" for key, n in self.left_out.items() if isinstance(n, int))
            yield f"left out before the build: {', '.join(counts)}"
        if self.left_out.get("missing"):
            yield f"packages not fetched: {', '.join(self.left_out['missing'])}"

    def write_credits(self, path: str | os.PathLike) -> None:
        """Writes the credits of a fetched corpus; does nothing for others."""
        if self.corpus.download:
            self.corpus.download.write_credits(self.cache, self.clips, path)


def open_corpus(
    name: str,
    *,
    metadata: Sequence[str] | None = None,
    audio: str | None = None,
    split: str | None = None,
    options: Sequence[str] = (),
    cache: str = "",
    tier: str = "s",
    decoded: bool = True,
) -> Opened:
    """Opens a corpus from the arguments of a build.

    Args:
      options: ``KEY=VALUE`` each.
      cache, tier: where a fetched corpus lies, and how much of it to use.
      decoded: whether audio is needed; an account of the metadata does not need it.

    Raises:
      UserError: as ``read``; metadata or audio is missing, or given but not used.
    """
    corpus = get(name)
    if corpus.download:
        for knob, value in (("audio", audio), ("metadata", metadata), ("split", split), ("option", options)):
            if value:
                raise UserError(f"--{knob} is not for the {name} corpus, which is read from --cache")
        return Opened(*corpus.download.collect(cache, tier), None, corpus, cache)
    # a user's own data may have its audio in the folder, or in the files
    holds_audio = corpus.containers and (
        not metadata or _is_one_folder(metadata) or all(path.lower().endswith(corpus.containers) for path in metadata)
    )
    if not (metadata or (holds_audio and audio)) or not (audio or holds_audio or not decoded or not corpus.audio):
        needed = f" and --audio DIR ({corpus.audio})" if corpus.audio else ""
        raise UserError(f"'alp data build {name}' needs --metadata FILE... ({corpus.metadata}){needed}")
    where, settings = (metadata or [], audio, split), parse_options(options)
    return Opened(read(name, *where, **settings), {}, split_rule(name, *where, **settings), corpus, cache)


def parse_options(texts: Sequence[str]) -> dict[str, str]:
    """Settings of a corpus from ``KEY=VALUE`` texts; UserError for other texts, or a key given twice."""
    options = dict(text.partition("=")[::2] for text in texts)
    for key, value in options.items():
        if not value:
            raise UserError(f"--option {key}: give it as KEY=VALUE")
    if len(options) < len(texts):
        raise UserError(f"--option {' --option '.join(texts)}: give each key once, as in ignore=COLUMN,COLUMN")
    return options


def read_spec(text: str, split: str) -> tuple[str, Clips] | None:
    """(corpus, clips) of ``CORPUS:FILE[,FILE...][,OPTION=VALUE...]``; None for a path or URL.

    Args:
      split: of all clips, if the file names do not state it. Of a corpus that publishes the split of every clip, the
        training clips are read for ``train`` and the others for any other value.

    Raises:
      UserError: as ``read``; no file is named; or, while iterating, every clip is of the other side.
    """
    name, colon, rest = text.partition(":")
    if not colon or rest.startswith("//") or name not in names() or (corpus := get(name)).read is None:
        return None
    parts = rest.split(",")
    options = [part for part in parts if part.partition("=")[0] in corpus.options and "=" in part]
    paths = [part for part in parts if part not in options]
    if not all(paths):
        raise UserError(f"{text}: give the published files as {name}:FILE or {name}:FILE,FILE")
    # if the names state it, ids are those that a build gives
    stated = all(len(split_words(path.rpartition("/")[2])) == 1 for path in paths)
    fixed = stated or corpus.official_split
    clips = read(name, paths, None, None if fixed else split, **parse_options(options))
    return name, clips if stated or not corpus.official_split else _one_side(text, clips, split)


def _one_side(text: str, clips: Clips, split: str) -> Clips:
    """The training clips for ``train``, else the clips of the other splits."""
    found, left_out = False, False
    for clip in clips:
        if isinstance(clip, Rejected):
            yield clip
        elif (clip.split == "train") == (split == "train"):
            found = True
            yield clip
        else:
            left_out = True
    if left_out and not found:
        raise UserError(
            f"{text} has no {'train' if split == 'train' else 'valid or test'} clips: name a file that has them"
        )


def _is_one_folder(paths: Sequence[str | os.PathLike]) -> bool:
    return len(paths) == 1 and not storage.is_remote(paths[0]) and storage.local(paths[0]).is_dir()


def _metadata_files(locations: Sequence[str | os.PathLike], suffixes: Sequence[str]) -> list[pathlib.Path]:
    """The files that paths and patterns (``*``, ``?``, ``[...]``) name; for a folder its files with ``suffixes``,
    sorted."""
    files = []
    local = (objects.fetched(one, suffixes) if storage.is_remote(one) else [storage.local(one)] for one in locations)
    for path in itertools.chain.from_iterable(map(_matches, itertools.chain.from_iterable(local))):
        if path.is_dir() and suffixes:
            try:
                inside = sorted(path / name for name in os.listdir(path) if name.endswith(tuple(suffixes)))
            except OSError as error:
                raise UserError(f"metadata folder {path} cannot be read: {error.strerror}") from None
            if not inside:
                raise UserError(f"metadata folder {path} holds no {' or '.join(suffixes)} file")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"metadata {path} does not exist")
    return files


def _matches(path: pathlib.Path) -> list[pathlib.Path]:
    """The files that a pattern matches; ``path`` itself if it exists or is not a pattern."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    files = sorted(map(pathlib.Path, glob.glob(str(path), recursive=True)))
    if not files:
        raise UserError(f"no file matches {path}")
    return files
