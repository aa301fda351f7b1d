"""A run folder in an object store: fetched, leased, written in the background, read through a copy."""

import concurrent.futures
import os
import time

import fsspec
import pytest

from alp_jax.core import object_store, storage
from alp_jax.core.errors import StorageError, UserError
from alp_jax.train import lease as lease_module
from alp_jax.train import uploads as uploads_module
from alp_jax.train.checkpoint_folder import Keep, complete, numbered, step_folder, verify, write_manifest
from alp_jax.train.lease import StoreLease
from alp_jax.train.remote_run import local_run, stage_of
from alp_jax.train.uploads import Uploads

URL = "memory://bucket/runs/a"


@pytest.fixture(autouse=True)
def empty(monkeypatch, tmp_path):
    """An empty store, an empty local disk, and no waiting."""
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "disk"))
    for module, name, value in (
        (uploads_module, "EVERY_S", 0.02),
        (uploads_module, "RETRY_S", (0.01, 0.02)),
        (lease_module, "RENEW_S", 0.05),
        (lease_module, "LEASE_S", 0.5),
        (lease_module, "_POLL_S", 0.05),
    ):
        monkeypatch.setattr(module, name, value)
    renewed, made = lease_module._Renewed, []
    monkeypatch.setattr(lease_module, "_Renewed", lambda renew: made.append(renewed(renew)) or made[-1])
    yield
    for one in made:  # of processes that were "killed"
        one.close()


def begun(keep=None):
    stage = stage_of(URL)
    stage.mkdir(parents=True, exist_ok=True)
    return stage, Uploads(stage, URL, keep or Keep())


def save(stage, step, loss=1.0):
    folder = stage / "checkpoints" / str(step)
    (folder / "state").mkdir(parents=True)
    (folder / "state" / f"data-{os.urandom(2).hex()}").write_bytes(os.urandom(1000))
    write_manifest(folder, {"samples_seen": step}, {"loss": loss})


def wait_until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_host_goes_on_from_what_is_up(tmp_path, monkeypatch):
    stage, uploads = begun()
    uploads.begin(0)
    uploads.start()
    (stage / "config.json").write_text("{}")
    for step in (3, 6):
        (stage / "metrics.jsonl").write_text(f"{step}\n")
        save(stage, step)
        uploads.sealed(step)
        time.sleep(0.1)  # several turns of the thread
        assert complete(URL) == ([3] if step == 6 else [])  # not before the numbers of its steps are in the log
        uploads.reported = step
        wait_until(lambda step=step: complete(URL) == [step])
    assert complete(stage) == [6]
    uploads.close()
    assert verify(step_folder(URL, 6)) == verify(stage / "checkpoints" / "6")
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "other disk"))
    other, uploads = begun()
    assert (other / "metrics.jsonl").read_text() == "6\n"
    assert verify(other / "checkpoints" / "6") == verify(stage / "checkpoints" / "6")
    uploads.close()


def test_what_is_removed_here_is_removed_there(tmp_path):
    stage, uploads = begun(Keep(last=1, every=4))
    uploads.begin(0)
    for name in ("DONE", "summary.json", "eval/a-mean.json", "eval/cache/frames.bin", ".hidden", "checkpoints/3/half"):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text(name)
    order = []
    send = object_store.send

    def recorded(source, url):
        order.append(url.removeprefix(URL + "/"))
        send(source, url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_store, "send", recorded)
        uploads.up_to_date()
        assert order == ["eval/a-mean.json", "summary.json", "DONE"]
        (stage / "DONE").unlink()
        (stage / "eval" / "a-mean.json").rename(stage / "eval" / "b.json")
        uploads.up_to_date()
    assert set(storage.tree(URL)) - {".lease/00000001"} == {"summary.json", "eval/b.json"}
    for step in (4, 5, 6):
        save(stage, step)
        uploads.sealed(step)
    uploads.reported = 6
    uploads.up_to_date()
    assert complete(URL) == [4, 6]  # 5 was not due any more when its turn came
    assert complete(stage) == [6]
    save(stage, 7)
    uploads.sealed(7)
    object_store.send(stage / "summary.json", storage.join(URL, "checkpoints/5/left"))  # a kill came in the middle
    uploads.reported = 7
    uploads.up_to_date()
    assert numbered(URL) == [4, 7]


def test_a_stage_that_was_the_last_to_write_keeps_what_was_not_up_yet(monkeypatch, tmp_path):
    stage, uploads = begun()
    uploads.begin(0)
    save(stage, 3)
    uploads.sealed(3)
    uploads.reported = 3
    uploads.up_to_date()
    save(stage, 6)  # and a kill: nothing is closed
    again, uploads = begun()
    assert complete(again) == [3, 6]
    uploads.begin(6)
    uploads.start()
    uploads.close()
    assert complete(URL) == [6]
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "other disk"))
    begun()[1].close()
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "disk"))
    save(stage, 9)  # but another host has written since, so this is of another history
    again, uploads = begun()
    assert complete(again) == [6]
    uploads.close()


def test_a_damaged_checkpoint_is_fetched_with_the_one_before_it_and_counts_no_more():
    stage, uploads = begun(Keep(last=2))
    uploads.begin(0)
    for step in (3, 6):
        save(stage, step)
        uploads.sealed(step)
    uploads.reported = 6
    uploads.up_to_date()
    damaged = next(name for name in storage.tree(URL) if name.startswith("checkpoints/6/state"))
    storage.write(storage.join(URL, damaged), bytes(1000))
    uploads.start()
    uploads.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALP_CACHE", str(stage.parent / "other disk"))
        other, uploads = begun(Keep(last=1))
        assert complete(other) == [3, 6]
        uploads.begin(3)  # as the loop does, which has moved 6 aside
        (other / "checkpoints" / "6").rename(other / "checkpoints" / "6.damaged")
        save(other, 5)
        uploads.sealed(5)
        uploads.reported = 5
        uploads.up_to_date()
        assert complete(URL) == [5, 6]
        save(other, 6)
        uploads.sealed(6)
        uploads.reported = 6
        uploads.up_to_date()
        assert complete(URL) == [6]
        verify(step_folder(URL, 6))


def test_what_fails_is_said_and_tried_again_and_the_end_waits_for_it(monkeypatch, capsys):
    stage, uploads = begun()
    uploads.begin(0)
    send, failures = object_store.send, iter(range(3))

    def failing(source, url):
        if next(failures, None) is not None:
            raise StorageError(f"{url} could not be written: no route to host")
        send(source, url)

    monkeypatch.setattr(object_store, "send", failing)
    (stage / "config.json").write_text("{}")
    uploads.start()
    uploads.close()
    assert storage.read(storage.join(URL, "config.json")) == b"{}"
    told = capsys.readouterr().err
    assert told.count("config.json could not be written: no route to host; trying again in") == 3
    assert f"alp: {URL} is up to date again" in told
    monkeypatch.setattr(object_store, "send", lambda source, url: failing(source, url) or failing(source, url))
    _, uploads = begun()
    failures = iter(range(10**9))
    (stage / "config.json").write_text("{1}")
    uploads.start()
    with pytest.raises(
        StorageError, match=r"runs/a lacks what .* has, after 0 s of trying: .*no route to host; run the"
    ):
        uploads.close(within_s=0.05)


def test_of_two_who_want_a_run_that_was_left_one_gets_it(capsys):
    dead = StoreLease(URL, "dead")
    dead._renewed.close()  # a SIGKILL: nothing is released
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        takers = [pool.submit(StoreLease, URL, name) for name in ("one", "two")]
        outcomes = [taker.exception() for taker in takers]
    won = outcomes.index(None)
    assert isinstance(outcomes[1 - won], UserError)
    assert f"--workdir {URL} is in use by process {os.getpid()} on " in str(outcomes[1 - won])
    assert f"alp: {URL} was in use by process {os.getpid()} on " in capsys.readouterr().err
    lease = takers[won].result()
    assert lease.last_stage == "dead"
    lease.check()
    with pytest.raises(StorageError, match="was taken over by process"):
        dead.check()
    assert storage.names(storage.join(URL, ".lease")) == ["00000002"]
    lease.close()
    StoreLease(URL, "next").close()  # a run that was left properly is free at once


def test_a_process_that_was_stalled_writes_nothing_more(monkeypatch):
    stage, uploads = begun()
    uploads.begin(0)
    uploads.lease._renewed.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALP_CACHE", str(stage.parent / "other disk"))
        _, other = begun()
    (stage / "config.json").write_text("{}")
    uploads.start()
    wait_until(lambda: not uploads._thread.is_alive())
    assert "taken over by process" in uploads.lease.lost
    with pytest.raises(StorageError, match="taken over by process"):
        uploads.close()
    assert storage.size(storage.join(URL, "config.json")) == -1
    other.close()


def test_a_copy_is_for_reading_unless_it_says_so():
    for name in ("config.json", "metrics.jsonl", "eval/a.json"):
        storage.write(storage.join(URL, name), b"{}")
    with local_run(URL) as run:
        assert run.name == "a"
        assert sorted(storage.tree(run)) == ["config.json", "eval/a.json"]
        (run / "eval" / "b.json").write_text("{}")
    assert not run.exists()
    assert storage.names(storage.join(URL, "eval")) == ["a.json"]
    with local_run(URL, write=True) as run:
        (run / "eval" / "b.json").write_text("{}")
    assert storage.names(storage.join(URL, "eval")) == ["a.json", "b.json"]
    with pytest.raises(UserError, match="memory://bucket/runs/a has no checkpoint"), local_run(URL, [None]):
        pass
