"""What reading a data set takes is measured and told, and which codec follows from it."""

import json

import pytest
import soundfile

from alp_jax.cli.main import main
from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import Clip
from alp_jax.data.building.build import build
from alp_jax.data.reading import ahead_line, measure_reading, reading_lines
from alp_jax.data.store.dataset import open_dataset


@pytest.fixture(scope="module", params=["flac", "pcm"])
def dataset(request, tmp_path_factory, sound):
    root = tmp_path_factory.mktemp("reading")
    clips = []
    for i in range(4):
        soundfile.write(root / f"{i}.wav", sound(i, 5.0 + i), 16_000)
        clips.append(Clip(f"n:{i}", "n", f"r:{i}", str(root / f"{i}.wav"), captions=("notes",)))
    build(clips, root / "set", source_name="notes", workers=1, codec=request.param)
    return open_dataset(root / "set")


def test_both_codecs_are_measured_whichever_is_stored(dataset, capsys):
    found = measure_reading(dataset, clips=99)
    assert (found["codec"], found["clips"], found["audio_seconds"]) == (dataset.info["codec"], 4, 6.5)
    flac, pcm = found["codecs"]["flac"], found["codecs"]["pcm"]
    assert pcm["bytes"] == 6.5 * 32_000 > flac["bytes"]
    assert flac["ms"] > 2 * pcm["ms"] > 0
    assert flac["cores"]["h100"] == pytest.approx(13_000 / 6.5 * flac["ms"] / 1e3, rel=0.01)
    flac["cores"]["h100"] = 2.345
    lines = list(reading_lines(found))
    assert f"{flac['ms']:.2f} ms of a core as flac" in lines[0]
    assert f"2.35 as flac, {pcm['cores']['h100']:.2f} as pcm on an H100" in lines[1]
    wanted = {"flac": "fewer than 2.3 cores for each H100 need --codec pcm", "pcm": "can do with --codec flac"}
    assert wanted[found["codec"]] in lines[2]
    (dataset.path.parent / "c.csv").write_text("file_name,caption\n" + "".join(f"{i}.wav,notes\n" for i in range(4)))
    folder = ["--audio", str(dataset.path.parent), "--metadata", str(dataset.path.parent / "c.csv"), "--split", "train"]
    codec = ["--codec", found["codec"], "--workers", "1", "--out", str(dataset.path.parent / "again")]
    assert main(["data", "build", "folder", *folder, *codec]) == 0
    assert wanted[found["codec"]].removeprefix("fewer than 2.3 ") in capsys.readouterr().out
    assert main(["data", "plan", str(dataset.path), "--steps", "10"]) == 0
    out = capsys.readouterr().out
    assert "of a core as flac" in out
    assert "MB ahead: 4 batches" in out
    assert main(["data", "plan", str(dataset.path), "--steps", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reading"]["codec"] == found["codec"]


def test_bytes_ahead_are_told_or_why_they_do_not_fit():
    rungs = {"all": {"buckets": [{"megabytes": 163.84, "batch": 512}, {"megabytes": 100.0, "batch": 100}]}}
    assert "16 processes read up to 768 MB ahead: 4 batches of 164.1 MB" in ahead_line(DataConfig(workers=16), rungs)
    assert "on one host data.prefetch_mb = 9: 179 are needed" in ahead_line(DataConfig(prefetch_mb=9, workers=2), rungs)
