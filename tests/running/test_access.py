"""Whom Ray works for: a cluster is asked as a stranger would ask it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from rlstep.running import cluster
from rlstep.running.access import LOOPBACK, check_cluster, check_mode, named_cluster


class Cluster(grpc.GenericRpcHandler):
    """Says to every call what a Ray says that asks for a token, or one that does not."""

    def __init__(self, asks: bool) -> None:
        self.asks = asks

    def service(self, handler_call_details: Any) -> Any:
        del handler_call_details

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            if self.asks:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def running_cluster(asks: bool) -> Iterator[str]:
    """The address of such a cluster."""
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((Cluster(asks),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    try:
        yield f"{LOOPBACK}:{port}"
    finally:
        server.stop(None).wait()


def test_a_cluster_that_asks_for_a_token_is_taken() -> None:
    with running_cluster(asks=True) as address:
        check_cluster(address)


def test_a_cluster_that_answers_anybody_is_refused() -> None:
    with (
        running_cluster(asks=False) as address,
        pytest.raises(ValueError, match=rf"{address}', a Ray that answers without a token.*=token"),
    ):
        check_cluster(address)


def test_nobody_who_answers_is_no_cluster() -> None:
    with running_cluster(asks=True) as address:
        pass
    with pytest.raises(ValueError, match="does not answer as a Ray: unavailable"):
        check_cluster(address)


@pytest.mark.parametrize("address", ["head", ":6379", "head:", "ray://head:10001", "head:x"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"it is like '127\.0\.0\.1:6379'"):
        check_cluster(address)


def test_where_both_sides_show_certificates_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    check_cluster("head:6379")


@pytest.mark.parametrize("mode", ["disabled", "none", ""])
def test_without_tokens_nothing_begins(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(ValueError, match=rf"RAY_AUTH_MODE is '{mode}'.*valid value is 'token'"):
        check_mode()


@pytest.mark.parametrize("mode", [None, "token", "TOKEN"])
def test_with_them_all_may(mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    check_mode()


@pytest.mark.parametrize(("said", "named"), [("", ""), ("local", ""), ("auto", "auto")])
def test_what_names_a_cluster(said: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", said)
    assert named_cluster() == named


class Ray(SimpleNamespace):
    """As much of ray as `connect` asks for; keeps what it is told."""

    def __init__(self, host: str, gcs: str = "") -> None:
        super().__init__(told=None, ended=False)
        self.util = SimpleNamespace(get_node_ip_address=lambda: host)
        self.get_runtime_context = lambda: SimpleNamespace(gcs_address=gcs)

    def init(self, **told: Any) -> None:
        self.told = told | {"mode": os.environ["RAY_AUTH_MODE"]}

    def shutdown(self) -> None:
        self.ended = True


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Of a shell that says nothing of Ray; put back afterwards, whatever `connect` sets."""
    kept = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    for name in (*kept, "GLOO_SOCKET_IFNAME", "VLLM_HOST_IP"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_a_ray_of_our_own_asks_for_tokens_and_stays_on_loopback(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("VLLM_HOST_IP", "10.0.0.1")  # whoever set it knows why
    environment.setitem(sys.modules, "ray", ray := Ray(LOOPBACK))  # type: ignore[arg-type]
    cluster.connect({"env_vars": {"A": "b"}}, log_to_driver=False)
    assert ray.told["address"] == "local" and ray.told["mode"] == "token"
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    inside = {"GLOO_SOCKET_IFNAME": "lo", "VLLM_HOST_IP": "10.0.0.1", "A": "b"}
    assert ray.told["runtime_env"] == {"env_vars": inside}
    assert not ray.ended and caplog.messages == []


def test_a_ray_that_listens_elsewhere_is_said(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setitem(sys.modules, "ray", Ray("10.0.0.1"))  # type: ignore[arg-type]
    cluster.connect({}, log_to_driver=False)
    assert "listens on 10.0.0.1" in caplog.text


@pytest.mark.parametrize("named", [True, False])
def test_nothing_joins_a_cluster_that_answers_anybody(
    named: bool, environment: pytest.MonkeyPatch
) -> None:
    with running_cluster(asks=False) as address:
        ray = Ray("10.0.0.1", gcs=address)
        environment.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
        environment.setenv("RAY_ADDRESS", address if named else "auto")
        with pytest.raises(ValueError, match="answers without a token"):
            cluster.connect({}, log_to_driver=False)
    # Where 'auto' leads only Ray knows.
    assert (ray.told is None) == named and ray.ended != named


def test_a_cluster_of_many_nodes_keeps_its_addresses(environment: pytest.MonkeyPatch) -> None:
    with running_cluster(asks=True) as address:
        environment.setitem(sys.modules, "ray", ray := Ray("10.0.0.1"))  # type: ignore[arg-type]
        environment.setenv("RAY_ADDRESS", address)
        cluster.connect({}, log_to_driver=False)
    assert ray.told["address"] == address and ray.told["runtime_env"] == {"env_vars": {}}
