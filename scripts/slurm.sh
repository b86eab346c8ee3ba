#!/usr/bin/env bash
# Starts a training under Slurm, or continues it: the same line for both, and what the scheduler runs again by itself.
#
#   sbatch scripts/slurm.sh translation -c configs/translation/multi30k_en_de.yaml -c configs/cluster/slurm.yaml
#   sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm.sh ...      # options of sbatch come first
#   sbatch --array=1-5 scripts/slurm.sh ...                                         # five seeds, a run folder each
#
# Before the time limit (and wherever else SIGUSR1 is sent) the run saves and the job is put back into the queue; so it is
# after a failure of the machine or of a process that was killed. A mistake in the config (exit status 2) and an error of the
# program (1) end the job. `scancel` saves and ends it. See docs/cluster.md.
#SBATCH --job-name=unroll
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -uo pipefail

GRACE=${UNROLL_GRACE:-100} # seconds from the signal until the job is put back although the run has not ended
SAVED=75                   # exit status of a run that has saved because it was asked to end
cd "${SLURM_SUBMIT_DIR:?run this by sbatch}" || exit 2
if [ $# -lt 1 ] || [ ! -f "apps/$1/__main__.py" ]; then
    echo "error: the first argument names an application (a folder of apps/), got '${1:-nothing}'; submit from the folder" \
        "of the repository." >&2
    exit 2
fi
application=$1
shift
python=${UNROLL_PYTHON:-.venv/bin/python}
job=$SLURM_JOB_ID
extra=()
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
    name=unnamed
    for ((i = 1; i < $#; i++)); do # the run folder that the first config would have, and in it one a seed
        if [ "${!i}" = -c ] || [ "${!i}" = --config ]; then
            next=$((i + 1))
            name=$(basename "${!next}")
            name=${name%.*}
            break
        fi
    done
    extra=(--seed_everything "$SLURM_ARRAY_TASK_ID" --run_dir "${UNROLL_RUNS:-runs}/$application/$name/seed$SLURM_ARRAY_TASK_ID")
fi
if [ -z "${MASTER_ADDR:-}" ]; then
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
fi
export MASTER_ADDR

asked=
ended=
on_usr1() {
    asked=yes
    # This shell has a handler from here on, the run only when Python has started: where it cannot be reached, or does not end,
    # the job is put back all the same.
    if [ -z "$watchdog" ]; then
        (
            sleep "$GRACE"
            echo "slurm.sh: the run has not ended $GRACE s after the signal; back into the queue from its last checkpoint"
            scontrol requeue "$job"
        ) &
        watchdog=$!
    fi
    kill -USR1 "$step" 2>/dev/null
}
on_term() {
    ended="slurm.sh: ended by SIGTERM: scancel, or Slurm itself puts the job back (a node has failed, say)"
    kill -TERM "$step" 2>/dev/null
}
watchdog=
step=
trap on_usr1 USR1
trap on_term TERM

echo "slurm.sh: job $job, start ${SLURM_RESTART_COUNT:-0} on $SLURM_JOB_NODELIST, $(date '+%Y-%m-%d %H:%M:%S')"
if [ $((${SLURM_RESTART_COUNT:-0} % 2)) -eq 1 ]; then
    # Where ending a step takes longer than Slurm waits for an answer (MessageTimeout, 10 s), as it does where processes wait for
    # one that was killed, it sends the same order again a minute later: to the step of that number that runs then. So every
    # second start leaves the number to a step that does nothing.
    srun --nodes=1 --ntasks=1 --ntasks-per-node=1 true
fi
if [ -n "$ended" ]; then
    echo "$ended"
    exit 0
fi
srun --kill-on-bad-exit=1 --ntasks-per-node="${SLURM_NTASKS_PER_NODE:-1}" \
    "$python" -m "apps.$application" fit "$@" ${extra[@]+"${extra[@]}"} \
    --ckpt_path auto --trainer.num_nodes "$SLURM_JOB_NUM_NODES" --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}" &
step=$!
[ -n "$asked" ] && kill -USR1 "$step"
while kill -0 "$step" 2>/dev/null; do # a signal ends `wait`, not the run
    wait "$step"
done
wait "$step"
status=$?
[ -n "$watchdog" ] && kill "$watchdog" 2>/dev/null

if [ -n "$ended" ]; then
    echo "$ended"
elif [ "$status" -eq 0 ]; then
    echo "slurm.sh: finished"
elif [ "$status" -eq "$SAVED" ] || [ -n "$asked" ] || [ "$status" -gt 128 ]; then
    echo "slurm.sh: status $status; back into the queue"
    scontrol requeue "$job"
    sleep 60 # the job is ended from outside
else
    echo "slurm.sh: status $status; not started again"
fi
exit "$status"
