"""Who may reach the Ray that a run works on: whoever does runs code in it.

A Ray of the run's own listens on this machine's loopback address alone. A cluster that RAY_ADDRESS
names is asked, without a token, whether it lets anybody in; one that does is refused.
"""

from __future__ import annotations

import os

LOOPBACK = "127.0.0.1"
_PATIENCE_S = 10.0
_ASKED = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What every client asks a cluster first (Ray 2.60)."""


def named_cluster() -> str:
    """What RAY_ADDRESS says: 'host:port', or 'auto'; '' where a run starts a Ray of its own."""
    address = os.environ.get("RAY_ADDRESS", "")
    return "" if address == "local" else address


def stay_on_loopback() -> dict[str, str]:
    """Have the Ray that this process starts listen on loopback alone; before ray is imported.

    Returns:
        The same for what listens in Ray's workers: gloo would take the address of the machine's
        name, vLLM the one of the way to other networks.
    """
    # Ray 2.60 has it for machines that ask at every port; its own name for the address of a node,
    # `_node_ip_address`, takes loopback for a mistake.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return {"GLOO_SOCKET_IFNAME": "lo", "VLLM_HOST_IP": LOOPBACK}


def check_mode() -> None:
    """Whether Ray is left to show its token, and to ask for it where a run starts it.

    Raises:
        ValueError: RAY_AUTH_MODE says otherwise.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise ValueError(
            f"RAY_AUTH_MODE is {mode!r}, and whoever reaches a Ray without a token runs code in it;"
            " the nearest valid value is 'token', which is also what an unset one means"
        )


def check_cluster(address: str, patience_s: float = _PATIENCE_S) -> None:
    """Whether a cluster answers, and only who has its token.

    Args:
        address: of its GCS, 'host:port'.
        patience_s: for the answer, in seconds.

    Raises:
        ValueError: it does not answer, or anybody; or this is no such address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ValueError(f"RAY_ADDRESS is {address!r}; it is like '127.0.0.1:6379'")
    if os.environ.get("RAY_USE_TLS", "0") in ("1", "true"):
        return  # both sides show certificates before anything is asked
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(_ASKED)(b"", timeout=patience_s)
        except grpc.RpcError as error:
            code = error.code()  # type: ignore[attr-defined]  # a call's errors are calls too
            if code is grpc.StatusCode.UNAUTHENTICATED:
                return
            raise ValueError(
                f"RAY_ADDRESS is {address!r}, which does not answer as a Ray: {code.name.lower()}"
            ) from error
    raise ValueError(
        f"RAY_ADDRESS is {address!r}, a Ray that answers without a token: whoever reaches it runs"
        " code in it. Start all its nodes with RAY_AUTH_MODE=token (cluster/README.md)"
    )
