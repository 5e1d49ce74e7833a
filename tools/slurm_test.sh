#!/usr/bin/env bash
# Test with Slurm: tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options of tools/test.py]
# Environment: as tools/slurm_train.sh. See docs/clusters.md.
set -eu
here=$(dirname "$0")
# shellcheck source=tools/launch.sh
. "$here/launch.sh"
need_arguments 4 $# \
    "tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options of tools/test.py]"
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
set_srun "$partition" "$job"
exec "${srun[@]}" python -u "$here/test.py" "$config" "$checkpoint" --launcher slurm "$@"
