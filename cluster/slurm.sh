#!/usr/bin/env bash
# A run on Slurm: one Ray node on each Slurm node, the driver on the first.
#
#   sbatch cluster/slurm.sh recipes/arithmetic_full_step_dpo.py --name slurm-1
#
# Everything after the script's name goes to `rlstep train`. Three minutes before the time limit the
# run is asked to stop: it writes a checkpoint, and `--resume True` goes on from there.
#SBATCH --job-name=rlstep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_HEAD="$head:$port" RAY_HEAD_PORT=$port

# A token of this job alone, on the shared home that all its nodes see.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.ray/token-$SLURM_JOB_ID"
umask 077
mkdir -p "$HOME/.ray"
openssl rand -hex 32 >"$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

srun bash -c '
    node=(ray start --block --disable-usage-stats
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")
    if [[ $SLURM_NODEID == 0 ]]; then
        exec "${node[@]}" --head --port="$RAY_HEAD_PORT" --dashboard-host=127.0.0.1
    fi
    until ray health-check --address="$RAY_HEAD" 2>/dev/null; do
        if ((SECONDS > 300)); then echo "no head node at $RAY_HEAD after 300 s" >&2; exit 1; fi
        sleep 2
    done
    exec "${node[@]}" --address="$RAY_HEAD"
' &
cluster=$!

until ray status --address="$RAY_HEAD" 2>/dev/null |
    awk -v want="$SLURM_JOB_NUM_NODES" '/^ 1 node_/ {n++} END {exit n < want}'; do
    kill -0 "$cluster" # ends the job if Ray did not start
    if ((SECONDS > 300)); then echo "not all nodes joined after 300 s" >&2; exit 1; fi
    sleep 2
done

RAY_ADDRESS="$RAY_HEAD" rlstep train "$@" &
driver=$!
trap 'kill -TERM "$driver"' TERM
status=0
wait "$driver" || status=$?
if kill -0 "$driver" 2>/dev/null; then # the signal ended the first wait, not the driver
    status=0
    wait "$driver" || status=$?
fi
kill "$cluster"
exit "$status"
