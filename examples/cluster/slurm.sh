#!/usr/bin/env bash
# A dataset on a SLURM cluster, as three jobs: an array that reads, an array that scores, and the merge.
#
#   IMAGES=/data/images LABELS=/data/labels OUT=/data/scores SHARDS=32 ./slurm.sh
#
# Further options of `panimbus predict` go into OPTIONS, of sbatch into SBATCH_... variables or behind the script's name. A job
# that was killed (time limit, preemption) goes on where it was when it is started again: run this script once more.
set -euo pipefail

: "${IMAGES:?folder of images}" "${LABELS:?folder of label images}" "${OUT:?folder for the results, seen by all nodes}"
SHARDS=${SHARDS:-16}
# float32: nodes with other processors give the same scores
OPTIONS=${OPTIONS:---precision float32}
export IMAGES LABELS OUT SHARDS OPTIONS

shard() { # one task of an array; --threads: what the job was given, not what the node has
  # shellcheck disable=SC2086
  panimbus predict "$IMAGES" --labels "$LABELS" --out "$OUT" $OPTIONS --threads "${SLURM_CPUS_PER_TASK:-1}" \
    --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --stage "$1"
}

case "${1:-submit}" in
  scan) shard scan ;;
  score) shard all ;;
  merge) panimbus merge "$OUT" ;;
  *)
    [ "${1:-submit}" = submit ] || more=("$@")
    submit() { sbatch --parsable --export=ALL --requeue "$@"; }
    array=(--array="1-$SHARDS" --cpus-per-task=4 --mem=8G --time=04:00:00 "${more[@]+"${more[@]}"}")
    scan=$(submit --job-name=panimbus-scan "${array[@]}" "$0" scan)
    score=$(submit --job-name=panimbus-score "${array[@]}" --dependency="afterok:$scan" "$0" score)
    merge=$(submit --job-name=panimbus-merge --mem=16G --time=01:00:00 --dependency="afterok:$score" "$0" merge)
    echo "submitted $scan (first pass), $score (scores), $merge (table)"
    ;;
esac
