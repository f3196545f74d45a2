#!/usr/bin/env bash
# A Ray cluster of several nodes on this machine, behind a token; its dashboard on 127.0.0.1 only.
#
#   cluster/local.sh [NODES] [CPUS_PER_NODE]      2 nodes of 2 CPUs by default
#
# Runs until Ctrl-C (or SIGTERM), and then ends the nodes it started and nothing else.
# RAY_PORT and DASHBOARD_PORT choose other ports.
set -euo pipefail

nodes=${1:-2}
cpus=${2:-2}
port=${RAY_PORT:-6379}
dashboard=${DASHBOARD_PORT:-8265}

# Said at once, with the setting's name and a port that is free.
python3 - RAY_PORT="$port" DASHBOARD_PORT="$dashboard" <<'CHECK'
import socket, sys

def free(number):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", number)) != 0

for setting in sys.argv[1:]:
    name, _, port = setting.partition("=")
    if not free(int(port)):
        nearest = next(number for number in range(int(port) + 1, 65536) if free(number))
        sys.exit(f"{name} is {port}, and that port is taken; the nearest free one is {nearest}")
CHECK

export RAY_AUTH_MODE=token RAY_JOB_STOP_WAIT_TIME_S=300
if [[ -z ${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-} ]]; then
    ray get-auth-token --generate >/dev/null # kept in ~/.ray/auth_token, found there by every client
fi

stop() {
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    wait "${pids[@]}" 2>/dev/null || true
}
pids=()
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start_node() {
    # Worker ports 0: the system picks free ones, so that nodes do not reach for the same.
    ray start --block --disable-usage-stats --num-cpus="$cpus" \
        --min-worker-port=0 --max-worker-port=0 "$@" &
    pids+=($!)
}

start_node --head --port="$port" --dashboard-host=127.0.0.1 --dashboard-port="$dashboard"
until ray health-check --address="127.0.0.1:$port" 2>/dev/null; do
    kill -0 "${pids[0]}" # ends the script if the head did not start
    if ((SECONDS > 120)); then echo "the head node does not answer after 120 s" >&2; exit 1; fi
    sleep 1
done
for ((node = 1; node < nodes; node++)); do
    start_node --address="127.0.0.1:$port" --dashboard-agent-listen-port=0
done

cat <<END

Ray listens on 127.0.0.1:$port, its dashboard and job server on http://127.0.0.1:$dashboard.
In another terminal:

  export RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard
  ray job submit --working-dir recipes -- rlstep train arithmetic_full_step_dpo.py

Ctrl-C ends the cluster.
END
wait -n "${pids[@]}"
