"""Questions and answers as AIR-Bench publishes them: Yang et al., "AIR-Bench", ACL 2024 (github.com/OFA-Sys/AIR-Bench).

Questions are a JSON array (``Chat/Chat_meta.json``, ``Foundation/Foundation_meta.json``) or JSON lines; answers are
JSON lines with the fields of the question and ``response``. A record of the foundation benchmark has ``choice_a`` to
``choice_d``. The same questions are also published as instructions, in one file without ids: ``audio_id``
(``sound_QA_clotho/1.wav``, folder and file of the layout above), ``instruction``, ``input``, ``output``, ``dataset``.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_text

LETTERS = "ABCD"
_TEXTS = ("path", "question", "answer_gt", "task_name", "dataset_name")
_CHOICES = tuple(f"choice_{letter.lower()}" for letter in LETTERS)
_INSTRUCTION = ("audio_id", "instruction", "output", "dataset")
_METADATA = ("Chat_meta.json", "Foundation_meta.json")
_FLAC = "Audio_Grounding"  # published records of this task say .wav, but the published files are .flac


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about one sound.

    Attributes:
      uniq_id: unique within a file.
      path: the sound, as a file below the task's folder or as the id of a clip of a data set.
      answer_gt: the right answer; one of ``choices`` where there are any.
      choices: two to four options; empty for an open question.
      meta_info: a description of the sound, for a judge that cannot listen.
      group: equal for sounds that are not independent, as they share a recording or a speaker.
    """

    uniq_id: int | str
    path: str
    question: str
    answer_gt: str
    task_name: str
    dataset_name: str
    choices: tuple[str, ...] = ()
    meta_info: str = ""
    group: str = ""

    def prompt(self) -> str:
        """The text that the model gets, as in the published inference scripts; missing options are left out."""
        if not self.choices:
            return self.question
        letters = [*LETTERS[: len(self.choices)]]
        listed = ", ".join(letters[:-1]) + ("," if len(letters) > 2 else "") + f" and {letters[-1]}"
        options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, self.choices, strict=True))
        return (
            f"Choose the most suitable answer from options {listed} to respond the question in next line, "
            f"you may only choose {' or '.join(letters)}.\n{self.question}\n{options}"
        )

    def target(self) -> str:
        """The reply of a perfect model: the option with its letter, or the answer."""
        if not self.choices:
            return self.answer_gt
        return f"{LETTERS[self.choices.index(self.answer_gt)]}. {self.answer_gt}"

    def record(self) -> dict[str, Any]:
        """The question as a record in the published form."""
        record = {name: getattr(self, name) for name in (*_TEXTS, "meta_info", "uniq_id")}
        if self.choices:
            record |= dict(zip(_CHOICES, self.choices, strict=False))
        return record | ({"group": self.group} if self.group else {})


def audio_path(root: pathlib.Path, question: Question) -> pathlib.Path:
    """Where AIR-Bench keeps the sound of a question, below its ``Chat`` or ``Foundation`` folder."""
    path = root / f"{question.task_name}_{question.dataset_name}" / question.path
    return path.with_suffix(".flac") if question.task_name == _FLAC else path


def read_records(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The objects of a JSON array, or of JSON lines if the name ends in ``.jsonl``; of a folder, its ``_METADATA``.

    Raises:
      UserError: the file cannot be read, has no records, or has a damaged one, which the message names.
    """
    path = _metadata(pathlib.Path(path))
    if path.suffix == ".jsonl":
        try:
            lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # a text may hold other breaks
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{path}: line {number} is not JSON: {error}") from None
    else:
        records = read_json(path, "question file")
    if not isinstance(records, list) or not records:
        raise UserError(f"{path} does not hold a list of records")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise UserError(f"{path}: record {number} is not a JSON object")
    return records


def _metadata(path: pathlib.Path) -> pathlib.Path:
    if not path.is_dir():
        return path
    there = [path / name for name in _METADATA if (path / name).is_file()]
    if len(there) != 1:
        raise UserError(f"{path} has {len(there)} of {' and '.join(_METADATA)}: give AIR-Bench's Chat or Foundation")
    return there[0]


def _of_instruction(record: dict[str, Any], number: int, where: str) -> dict[str, Any]:
    """An instruction as a record of the benchmark; ``number`` becomes its id. Other records stay as they are."""
    if any(name not in record for name in _INSTRUCTION):
        return record
    for name in _INSTRUCTION:
        if not isinstance(record[name], str):
            raise UserError(f"{where}: {name} is not text")
    folder, _, file = record["audio_id"].partition("/")
    task = folder.removesuffix(f"_{record['dataset']}")
    if not file or task == folder:
        raise UserError(f"{where}: audio_id {record['audio_id'][:80]!r} is not TASK_{record['dataset']}/FILE")
    asked = "\n".join(text for text in (record["instruction"], record.get("input")) if text)
    named = {"path": file, "question": asked, "answer_gt": record["output"], "task_name": task}
    return {"uniq_id": number, "meta_info": record.get("meta_info"), "dataset_name": record["dataset"], **named}


def parse(record: dict[str, Any], where: str, number: int = 0) -> Question:
    """The question of a published record; unknown fields are ignored. Raises UserError that begins with ``where``.

    Args:
      number: of the record in its file; it becomes the id of an instruction, which has none of its own.
    """
    record = _of_instruction(record, number, where)
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: half of a surrogate pair, which is not valid text") from None
    for name in _TEXTS:
        if not isinstance(record.get(name), str) or not record[name].strip():
            raise UserError(f"{where}: {name} is missing, empty or not text")
    if type(record.get("uniq_id")) not in (int, str):
        raise UserError(f"{where}: uniq_id is missing or is neither a number nor text")
    parts = pathlib.PurePosixPath(record["path"]).parts
    if pathlib.PurePosixPath(record["path"]).is_absolute() or ".." in parts:
        raise UserError(f"{where}: path {record['path'][:80]!r} points outside the audio folder")
    listed = [record.get(name) for name in _CHOICES]
    choices = tuple(choice for choice in listed if choice is not None)
    if listed[: len(choices)] != list(choices) or not all(isinstance(choice, str) for choice in choices):
        raise UserError(f"{where}: {', '.join(_CHOICES)} must be texts, given in that order without gaps")
    if choices and (len(choices) < 2 or record["answer_gt"] not in choices):
        raise UserError(
            f"{where}: answer_gt {record['answer_gt'][:80]!r} must be one of at least two choices, not of "
            f"{list(choices)}"
        )
    optional = {name: record.get(name) or "" for name in ("meta_info", "group")}
    optional = {name: text if isinstance(text, str) else json.dumps(text) for name, text in optional.items()}
    return Question(uniq_id=record["uniq_id"], choices=choices, **{name: record[name] for name in _TEXTS}, **optional)


def read_questions(path: str | os.PathLike) -> list[Question]:
    """All questions of a file.

    Raises:
      UserError: as ``read_records`` and ``parse``, or two records have the same ``uniq_id``.
    """
    questions = [parse(record, f"{path}: record {i}", i) for i, record in enumerate(read_records(path), 1)]
    seen: set[int | str] = set()
    for number, question in enumerate(questions, 1):
        if question.uniq_id in seen:
            raise UserError(f"{path}: record {number} repeats uniq_id {question.uniq_id!r} of an earlier one")
        seen.add(question.uniq_id)
    return questions


def read_answers(path: str | os.PathLike) -> list[tuple[Question, str]]:
    """Questions with the ``response`` to each.

    Raises:
      UserError: as ``read_questions``, or a record has no response.
    """
    answers = []
    for question, record in zip(read_questions(path), read_records(path), strict=True):
        if not isinstance(record.get("response"), str):
            raise UserError(f"{path}: the record with uniq_id {question.uniq_id!r} has no response")
        answers.append((question, record["response"]))
    return answers


def jsonl(records: Iterable[dict[str, Any]]) -> str:
    """Records as JSON lines, one object per line."""
    return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)


def write_questions(path: str | os.PathLike, questions: Sequence[Question]) -> None:
    """Writes JSON lines, atomically."""
    write_text(path, jsonl(question.record() for question in questions))
