"""Several processes as one run: start together, agree on values, fail together.

Messages between processes go through the key-value store of JAX's coordination service and never through the devices,
so they work before devices exist and while they are busy. Every wait has a limit and names the process it waited for.
All processes must make these calls in the same order, from one thread; with one process they return at once.

The coordinator has no authentication: it listens only on its own address, which belongs in a private network.
"""

import atexit
import contextlib
import hashlib
import json
import os
import pathlib
import platform
import sys
import threading
import time
import types
from typing import Any

import jax
from jax._src.distributed import global_state  # the key-value store, which has no public name

import alp_jax
from alp_jax.config.schema import ClusterConfig
from alp_jax.core import progress
from alp_jax.core.differences import first_difference
from alp_jax.core.errors import HangError, Preempted, UserError
from alp_jax.parallel.cluster import find_membership
from alp_jax.parallel.rendezvous import meet, resolve_address

_HEARTBEAT_S = 30  # silence after which JAX considers a process dead and ends the others
_SHUTDOWN_S = 15
_SLICE_S = 1.0  # between checks for signals while waiting
_LAST_S = 0.5  # by which process 0 outlives the others where a signal ends them all at once
_LISTEN_S = 2.0  # the same, for the thread that waits for failures of others
_FAILED, _HEARD, _HOSTS = "alp/failed", "alp/heard", "alp/host"
_FOREVER = 10 * 365 * 86400.0

_calls = 0  # of broadcast and gather; numbers their keys, so a process that skips a call waits for keys nobody writes
_leaving = threading.Event()


def initialize(config: ClusterConfig) -> None:
    """Makes this process part of a run of several, and does nothing for a run of one; to be called before JAX is used.

    Raises:
      UserError: settings that are missing or disagree, or a coordinator or process that does not appear within
        ``config.timeout_s``; every process that is present ends with such a line.
    """
    member = find_membership(config)
    if member is None or global_state.client is not None:
        return
    began = time.monotonic()
    address = resolve_address(member.coordinator, config.timeout_s)
    bind = resolve_address(config.bind, knob="--coordinator_bind") if config.bind else address
    # before JAX's own start-up, which aborts without naming the process that is missing
    meet(
        bind if member.process == 0 else address,
        {"process": member.process, "processes": member.processes, "host": platform.node(), "code": _code()},
        config.timeout_s - (time.monotonic() - began),
    )
    # Processes agree on preemption by ``train.stopping``; JAX's own service would swallow SIGTERM unless polled.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        _host_port(address),
        member.processes,
        member.process,
        local_device_ids=member.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(config.timeout_s),
        heartbeat_timeout_seconds=_HEARTBEAT_S,
        shutdown_timeout_seconds=_SHUTDOWN_S,
        coordinator_bind_address=_host_port(bind),
    )
    _client().key_value_set(f"{_HOSTS}/{member.process}", platform.node())
    listener = threading.Thread(target=_listen, name="failures of other processes", daemon=True)
    listener.start()
    atexit.register(_stop_listening, listener)
    _end_together_on_bugs()


def process_index() -> int:
    """This process's number; unlike ``jax.process_index`` it starts no device."""
    return global_state.process_id if global_state.client is not None else 0


def process_count() -> int:
    """Processes of the run; unlike ``jax.process_count`` it starts no device."""
    return global_state.num_processes if global_state.client is not None else 1


def is_primary() -> bool:
    """Whether this is the process that decides, writes files and reports."""
    return process_index() == 0


def stage(label: str, detail: str = "", *, quiet: bool = False, every: int = 0) -> contextlib.AbstractContextManager:
    """``core.progress.stage`` on process 0; the others say nothing."""
    return progress.stage(label, detail, quiet=quiet, every=every) if is_primary() else contextlib.nullcontext()


def broadcast(value: Any, purpose: str = "a value", timeout_s: float = 60.0) -> Any:
    """Process 0's ``value`` (anything JSON can hold) on every process; what the others pass is ignored.

    Raises:
      HangError: process 0 did not get to this call within ``timeout_s``, or is at another one.
    """
    if process_count() == 1:
        return value
    key = f"alp/broadcast/{_next_call()}"
    if is_primary():
        _client().key_value_set(key, json.dumps({"what": purpose, "value": value}))
        return json.loads(json.dumps(value))  # the round trip of the others: tuples become lists here too
    return _same_call(json.loads(_get(key, timeout_s, 0, purpose)), purpose, 0)["value"]


def gather(value: Any, purpose: str = "a value", timeout_s: float = 60.0) -> list:
    """Every process's ``value`` (anything JSON can hold) in order of their numbers, on every process.

    Raises:
      HangError: a process did not get to this call within ``timeout_s``, or is at another one; it is named.
    """
    if process_count() == 1:
        return [value]
    folder = f"alp/gather/{_next_call()}"
    _client().key_value_set(f"{folder}/from/{process_index()}", json.dumps({"what": purpose, "value": value}))
    if is_primary():
        _client().key_value_set(f"{folder}/all", json.dumps(_collect(f"{folder}/from", timeout_s, purpose)))
    everything = json.loads(_get(f"{folder}/all", timeout_s, 0, purpose))
    if "missing" in everything:
        raise HangError(everything["missing"])
    for process, entry in enumerate(everything["values"]):
        _same_call(entry, purpose, process)
    return [entry["value"] for entry in everything["values"]]


def barrier(name: str, timeout_s: float = 60.0) -> None:
    """Returns when every process is at the barrier ``name``.

    Raises:
      HangError: one did not come within ``timeout_s``, or is at another call; it is named.
    """
    gather(None, name, timeout_s)


def post(name: str, value: Any) -> None:
    """Leaves ``value`` (anything JSON can hold) for ``posted`` on any process; ``name`` is FOLDER/KEY, used once."""
    _client().key_value_set(f"alp/posted/{name}", json.dumps(value))


def posted(folder: str) -> dict[str, Any]:
    """What was posted under ``folder`` until now, by key; does not wait, and may be asked from any thread."""
    entries = _client().key_value_dir_get(f"alp/posted/{folder}")
    return {key.rpartition("/")[2]: json.loads(text) for key, text in entries}


def require_same(values: dict, purpose: str = "config") -> None:
    """Checks that nested settings are the same on every process.

    Raises:
      UserError: on every process, the first setting that differs with both values and both hosts.
    """
    everywhere = gather({"values": values, "host": platform.node()}, purpose)
    first = everywhere[0]
    for process, other in enumerate(everywhere[1:], 1):
        difference = first_difference(first["values"], other["values"], purpose)
        if difference:
            name, first_value, other_value = difference
            raise UserError(
                f"{name} is {first_value!r} in process 0 on {first['host']} but {other_value!r} in process {process} "
                f"on {other['host']}: start all processes with the same settings, code and data"
            )


def leave(code: int, message: str = "") -> None:
    """Ends this process's part in the run; to be called last, with the exit status and the line that explains it.

    After success or an agreed stop (0 and 42) it returns once all processes have called it. After a failure it tells
    the others, which print the line and end with the same status, and ends this process without waiting for them.
    """
    if process_count() == 1:
        return
    if code in (0, Preempted.exit_code):
        barrier("the end of the run", _FOREVER)  # a peer that dies is noticed by its heartbeat
        _leaving.set()
        if is_primary():
            _client().key_value_set(_FAILED, json.dumps(None))  # wakes all listeners: nobody can fail any more
        return
    end_now(code, message)


def end_now(code: int, message: str) -> None:
    """Ends all processes of the run with ``code`` and the line that explains it; on one process it returns."""
    if process_count() == 1:
        return
    try:
        failure = {"process": process_index(), "host": platform.node(), "message": message, "code": code}
        _client().key_value_set(_FAILED, json.dumps(failure))
        deadline = time.monotonic() + 3.0  # process 0 hosts the store, so the others must have read it first
        while is_primary() and time.monotonic() < deadline:
            if len(_client().key_value_dir_get(_HEARD)) == process_count() - 1:
                break
            time.sleep(0.02)
    except jax.errors.JaxRuntimeError:
        pass  # another process failed first, or the coordinator is gone; all that is left is to end
    _exit(code)


def _listen() -> None:
    """Waits for the failure of another process, then ends this one with its line and status."""
    own_index = process_index()
    while not _leaving.is_set():
        try:
            failure = json.loads(_client().blocking_key_value_get(_FAILED, int(_LISTEN_S * 1000)))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                continue
            return  # the coordinator is gone: JAX ends this process
        if failure is None or failure["process"] == own_index or _leaving.is_set():
            return
        did = "ended the run" if failure["code"] == Preempted.exit_code else "failed"
        progress.say(f"alp: process {failure['process']} on {failure['host']} {did}: {failure['message']}")
        _client().key_value_set(f"{_HEARD}/{own_index}", "")
        if is_primary() and failure["code"] == Preempted.exit_code:
            # The store ends with this process, and JAX aborts those that still have it: the one that was told to stop
            # is on its way out but may not be out yet, and its status has to be this one, too.
            time.sleep(_LAST_S)
        _exit(failure["code"])


def _stop_listening(listener: threading.Thread) -> None:
    """Joins the thread: inside the coordination client when the interpreter ends, it would crash it."""
    _leaving.set()
    listener.join()


def _exit(code: int) -> None:
    """Exits at once: a normal exit would wait for processes that may never come."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads
            stream.flush()
    os._exit(code)


def _end_together_on_bugs() -> None:
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        before(kind, error, trace)
        leave(1, f"{kind.__name__}: {error}")

    sys.excepthook = hook


def _collect(folder: str, timeout_s: float, purpose: str) -> dict:
    """Process 0's part of gather: everybody's entry, or the line that says who is missing."""
    deadline = time.monotonic() + timeout_s
    pause = 0.002
    while True:
        entries = {int(key.rpartition("/")[2]): text for key, text in _client().key_value_dir_get(folder)}
        if len(entries) == process_count():
            return {"values": [json.loads(entries[process]) for process in range(process_count())]}
        if time.monotonic() >= deadline:
            missing = [process for process in range(process_count()) if process not in entries]
            return {"missing": _waited(missing, purpose, timeout_s)}
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def _get(key: str, timeout_s: float, process: int, purpose: str) -> str:
    # 2 s longer than process 0 waits, so that it gives up first and the others hear from it which process is missing
    deadline = time.monotonic() + timeout_s + 2.0
    while True:
        try:
            return _client().blocking_key_value_get(key, int(_SLICE_S * 1000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise HangError(f"lost the coordinator while waiting for {purpose!r}: {error}") from None
        if time.monotonic() >= deadline:
            raise HangError(_waited([process], purpose, timeout_s))


def _waited(processes: list[int], purpose: str, timeout_s: float) -> str:
    names = ", ".join(f"process {process} on {_host(process)}" for process in processes[:8])
    more = f" and {len(processes) - 8} more" if processes[8:] else ""
    return f"{names}{more} did not reach {purpose!r} within {timeout_s:g} s"


def _host(process: int) -> str:
    try:
        return _client().key_value_try_get(f"{_HOSTS}/{process}")
    except jax.errors.JaxRuntimeError:
        return "an unknown host"


def _same_call(entry: dict, purpose: str, process: int) -> dict:
    if entry["what"] != purpose:
        raise HangError(
            f"process {process} on {_host(process)} is at {entry['what']!r}, process {process_index()} on "
            f"{platform.node()} at {purpose!r}: they are not running the same program"
        )
    return entry


def _next_call() -> int:
    global _calls
    _calls += 1
    return _calls


def _client() -> Any:
    return global_state.client


def _host_port(address: tuple[str, int]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _code() -> str:
    """What must be the same on every process: versions, and a digest of this package's files."""
    python = ".".join(platform.python_version_tuple()[:2])
    root, digest = pathlib.Path(alp_jax.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode() + path.read_bytes())
    return f"alp_jax {alp_jax.__version__} ({digest.hexdigest()[:8]}), jax {jax.__version__}, Python {python}"
