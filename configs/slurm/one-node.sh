#!/usr/bin/env bash
# A training on all GPUs of one node, as one process:
#   sbatch configs/slurm/one-node.sh finetune -m MODEL_DIR --pairs PAIRS.csv -o RUN [OPTION]...
#   sbatch configs/slurm/one-node.sh train -i IMAGES -l LABELS -o RUN [OPTION]...
# Other GPUs: sbatch --gpus-per-node=N configs/slurm/one-node.sh ... The batch (--batch) is that of all GPUs together and
# must divide into them. MCSAM is the program, else it is looked for in PATH.
#
# Two minutes before the time limit, and where the job is preempted, the training finishes its step, writes a checkpoint
# and ends with 75; the job then goes back to the queue and goes on from there to the same bits.
#SBATCH --job-name=mcsam
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
gpus=${SLURM_GPUS_ON_NODE:?start this script by sbatch}
code=0
trap : USR1 TERM # Slurm tells the process; this script must outlive it
srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" "${MCSAM:-mcsam}" "$@" --device cuda --gpus "$gpus" || code=$?
if [ "$code" = 75 ]; then
    echo "stopped with a checkpoint: job $SLURM_JOB_ID goes back to the queue" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
