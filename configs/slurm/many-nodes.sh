#!/usr/bin/env bash
# A training on the GPUs of several nodes, a process for each GPU:
#   sbatch configs/slurm/many-nodes.sh finetune -m MODEL_DIR --pairs PAIRS.csv -o RUN [OPTION]...
#   sbatch configs/slurm/many-nodes.sh train -i IMAGES -l LABELS -o RUN [OPTION]...
# Other sizes: sbatch --nodes=N --gpus-per-node=G --ntasks-per-node=G configs/slurm/many-nodes.sh ... The batch (--batch) is
# that of all GPUs together and must divide into them. RUN must be in a folder that all nodes see: the processes find each
# other in RUN/.ranks, and the data goes by NCCL. MCSAM is the program, else it is looked for in PATH.
#
# Two minutes before the time limit, and where the job is preempted, all processes finish the same step, one writes a
# checkpoint, and all end with 75; the job then goes back to the queue and goes on from there.
#SBATCH --job-name=mcsam
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:?start this script by sbatch}
code=0
trap : USR1 TERM # Slurm tells the processes; this script must outlive them
# A process that fails ends the others itself, with its name in their messages: srun need not kill them.
srun --kill-on-bad-exit=0 --cpus-per-task="$OMP_NUM_THREADS" "${MCSAM:-mcsam}" "$@" --device cuda || code=$?
if [ "$code" = 75 ]; then
    echo "stopped with a checkpoint: job $SLURM_JOB_ID goes back to the queue" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
