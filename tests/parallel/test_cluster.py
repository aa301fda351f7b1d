"""Who this process is, from flags, variables and schedulers; and the rendezvous before JAX starts."""

import contextlib
import socket
import threading

import pytest

from alp_jax.config.schema import ClusterConfig
from alp_jax.core.errors import AlpError, UserError
from alp_jax.parallel import hosts
from alp_jax.parallel.cluster import Membership, find_membership, first_node
from alp_jax.parallel.rendezvous import meet, resolve_address
from tests.cluster import free_port

ENV = {"ALP_COORDINATOR": "h0:1234", "ALP_NUM_PROCESSES": "4", "ALP_PROCESS_ID": "3"}
SLURM = {"SLURM_JOB_ID": "4100", "SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
SLURM |= {"SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("config", "environ", "place"),
    [
        (ClusterConfig(), {}, None),
        (ClusterConfig(), ENV, Membership("h0:1234", 4, 3)),
        (ClusterConfig(kind="none"), ENV, None),
        (ClusterConfig(coordinator="h1:1", num_processes=2, process_id=0), ENV, Membership("h1:1", 2, 0)),
        (ClusterConfig(kind="slurm"), SLURM, Membership("gpu07:61444", 8, 5, (1,))),
        (
            ClusterConfig(kind="slurm"),
            SLURM | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
            Membership("gpu07:61444", 2, 1),
        ),
        (ClusterConfig(kind="slurm"), SLURM | {"CUDA_VISIBLE_DEVICES": "3"}, Membership("gpu07:61444", 8, 5)),
        (ClusterConfig(kind="slurm"), SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        (
            ClusterConfig(kind="gke"),
            {"JAX_COORDINATOR_ADDRESS": "run-0-0.run", "NNODES": "2", "JOB_COMPLETION_INDEX": "1"},
            Membership("run-0-0.run:6002", 2, 1),
        ),
    ],
)
def test_places(config, environ, place):
    assert find_membership(config, environ) == place


@pytest.mark.parametrize(
    ("config", "environ", "message"),
    [
        (ClusterConfig(num_processes=2), {}, r"needs --coordinator HOST:PORT \(or ALP_COORDINATOR\) and --process_id"),
        (ClusterConfig(), ENV | {"ALP_PROCESS_ID": "4"}, r"--process_id 4 is not below --num_processes 4"),
        (ClusterConfig(), ENV | {"ALP_PROCESS_ID": "three"}, r"ALP_PROCESS_ID='three' is not a number"),
        (ClusterConfig(kind="slurm"), {}, r"--cluster slurm: SLURM_JOB_ID, SLURM_NTASKS, SLURM_PROCID is not set"),
        (ClusterConfig(kind="gke"), {"NNODES": "2"}, r"--cluster gke: .* needs --coordinator"),
        (ClusterConfig(kind="tpu"), {}, r"--cluster tpu: this is not a TPU VM"),
        (ClusterConfig(kind="mpi"), {}, r"unknown --cluster 'mpi'"),
    ],
)
def test_settings_that_cannot_be(config, environ, message):
    with pytest.raises(UserError, match=message):
        find_membership(config, environ)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu[007-009,12],login", "gpu007"), ("a[3,5]", "a3"), ("b,a[3,5]", "b")],
)
def test_first_node(nodes, first):
    assert first_node(nodes) == first


@pytest.mark.parametrize(
    ("address", "message"),
    [("host", "expected HOST:PORT"), ("host:0", "expected HOST:PORT"), ("no.such.host.invalid:80", "--coordinator no")],
)
def test_addresses(address, message):
    with pytest.raises(UserError, match=message):
        resolve_address(address)
    assert resolve_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert resolve_address("[::1]:80") == ("::1", 80)


def meet_all(*callers, timeout_s=5.0, knock=b""):
    """What each caller ends with: None, or the line of its error."""
    address, ends = ("127.0.0.1", free_port()), [None] * len(callers)

    def one(i, caller):
        try:
            meet(address, {"host": f"h{i}", "code": "1"} | caller, timeout_s)
        except AlpError as error:
            ends[i] = str(error)

    threads = [threading.Thread(target=one, args=entry) for entry in enumerate(callers)]
    threads[0].start()
    while knock:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(address, timeout=5) as stranger:
            stranger.sendall(knock)
            knock = b""
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def test_everybody_comes():
    assert meet_all(*({"process": i, "processes": 3} for i in range(3))) == [None] * 3


def test_strangers_are_ignored():
    both = ({"process": 0, "processes": 2}, {"process": 1, "processes": 2})
    assert meet_all(*both, knock=b"GET / HTTP/1.0\r\n\r\n") == [None] * 2


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"process": 1, "processes": 3}, "process 2 of 3 did not reach the coordinator on h0 within 0.5 s"),
        ({"process": 1, "processes": 4}, "--num_processes is 3 in process 0 on h0 but 4 in process 1 on h1"),
        ({"process": 1, "processes": 3, "code": "2"}, "code version is 1 in process 0 on h0 but 2 in process 1 on h1"),
        ({"process": 3, "processes": 3}, "--process_id 3 on h1 is not below --num_processes 3"),
    ],
)
def test_all_hear_the_same_fault(second, message):
    ends = meet_all({"process": 0, "processes": 3}, second, timeout_s=0.5)
    assert message in ends[0]
    assert ends[1] == ends[0]


def test_a_number_given_twice():
    ends = meet_all({"process": 0, "processes": 3}, *[{"process": 1, "processes": 3}] * 2)
    assert all("--process_id 1 is given to two processes" in end for end in ends)


def test_nobody_answers():
    end = meet_all({"process": 1, "processes": 2}, timeout_s=0.3)[0]
    assert "process 1 on h0 got no answer from process 0 at 127.0.0.1:" in end
    assert "correct --coordinator" in end


def test_an_address_of_another_host_is_not_listened_on():
    with pytest.raises(UserError, match=r"process 0 on h cannot listen on 192\.0\.2\.1:4000"):
        meet(("192.0.2.1", 4000), {"process": 0, "processes": 2, "host": "h", "code": "1"}, 1.0)


def test_one_process_agrees_with_itself():
    hosts.initialize(ClusterConfig(kind="none"))
    assert hosts.broadcast([1]) == [1]
    assert hosts.gather({"a": 1}) == [{"a": 1}]
    assert hosts.is_primary()
    hosts.barrier("here", timeout_s=0.0)
    hosts.require_same({"a": 1})
    hosts.leave(1, "returns")
