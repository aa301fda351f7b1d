"""Stand-ins for the programs of schedulers, which write down how they were called."""

import json
import sys

import pytest

_FAKE = """#!{python}
import json, os, pathlib, sys
name = pathlib.Path(sys.argv[0]).name
with open({log!r}, "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
folder = pathlib.Path({folder!r})
answers = json.loads((folder / f"{{name}}.json").read_text())
for words, replies in answers:
    if all(word in sys.argv for word in words):
        at = folder / f"{{name}}-{{'-'.join(words)}}.count"
        number = int(at.read_text()) if at.exists() else 0
        at.write_text(str(number + 1))
        code, text = replies[min(number, len(replies) - 1)]
        print(text)
        sys.exit(code)
"""


class Programs:
    """Fake programs on the PATH; ``calls`` are the argument lists that they were given."""

    def __init__(self, folder, monkeypatch):
        self._folder, self._log = folder, folder / "calls.jsonl"
        monkeypatch.setenv("PATH", str(folder))  # nothing that happens to be installed here

    def add(self, name: str, answers=()) -> None:
        """``answers``: pairs of words that all have to be in the call, and (exit code, output) in turn."""
        (self._folder / f"{name}.json").write_text(json.dumps([[list(words), replies] for words, replies in answers]))
        path = self._folder / name
        path.write_text(_FAKE.format(python=sys.executable, log=str(self._log), folder=str(self._folder)))
        path.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


@pytest.fixture
def programs(tmp_path_factory, monkeypatch):
    return Programs(tmp_path_factory.mktemp("bin"), monkeypatch)
