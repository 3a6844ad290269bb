#!/usr/bin/env bash
# Measure Lily on a machine with one NVIDIA GPU: tests, speed, memory, AudioSR beside it, one stage
# of training.
#
#   benchmarks/gpu.sh OUT
#   benchmarks/gpu.sh OUT --stage finish --data DIR --base MODEL [options of `lily train`]
#
# OUT (default: $OUT) must be empty or new. Every step leaves NAME.log, NAME.exit (its exit code; 124:
# it ran out of time) and, if it prints JSON, NAME.json; summary.json and summary.txt come last. A
# step that fails does not stop the next. Files above 15 MiB are split: `cat FILE.part-* > FILE`
# joins them. The exit code is 0 only if every step succeeded.
#
# Variables: PYTHON (python3; if it cannot import Lily's libraries, a virtual environment is made),
# DEVICE (cuda), AUDIO_SECONDS (60), ROUNDS (3), BUDGET (1500 s for everything), TESTS (what pytest
# collects; default: all), MODEL (a model folder to measure instead of one of AudioSR's size with
# random weights; AudioSR is skipped then), PEER (a Python that has kagayoi-audiosr, or "skip";
# default: a new virtual environment).
set -u
ROOT=$(cd "$(dirname "$0")/.." && pwd) || exit 2

if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then OUT=$1; shift; fi
if [ -z "${OUT:-}" ]; then echo "gpu.sh: give the output folder." >&2; exit 2; fi
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
if [ -n "$(ls -A "$OUT")" ]; then echo "gpu.sh: $OUT is not empty; give a new folder." >&2; exit 2; fi

PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} MODEL=${MODEL:-} PEER=${PEER:-}
AUDIO_SECONDS=${AUDIO_SECONDS:-60} ROUNDS=${ROUNDS:-3} BUDGET=${BUDGET:-1500} TESTS=${TESTS:-}
PEER_PACKAGE=kagayoi-audiosr==1.0.2
SHARD=15M       # a file's size at most
RESERVE=30      # seconds for the summary and the splitting
SCRATCH=$(mktemp -d) || exit 2  # environments and weights: gigabytes that nobody wants back
trap 'rm -rf "$SCRATCH"' EXIT
export PYTHONPATH=$ROOT

# step NAME LIMIT COMMAND…: run within LIMIT seconds and what is left of the budget.
step() {
  local name=$1 limit=$2 left=$((BUDGET - RESERVE - SECONDS)) code began=$SECONDS
  shift 2
  if [ "$left" -lt "$limit" ]; then limit=$left; fi
  echo "$name: ${*}" >&2
  if [ "$limit" -le 0 ]; then
    echo "no time was left for it" >"$OUT/$name.log"; code=124
  else
    timeout -k 20 "$limit" "$@" >"$SCRATCH/stdout" 2>"$OUT/$name.log"; code=$?
    if head -c 1 "$SCRATCH/stdout" | grep -q '{'; then mv "$SCRATCH/stdout" "$OUT/$name.json"
    else cat "$SCRATCH/stdout" >>"$OUT/$name.log"; fi
  fi
  echo "$code" >"$OUT/$name.exit"
  echo "$((SECONDS - began))" >"$OUT/$name.seconds"
  return "$code"
}

install_peer() {
  "$PYTHON" -m venv "$SCRATCH/peer" && "$SCRATCH/peer/bin/pip" install -q "$PEER_PACKAGE"
}

install_lily() {
  "$PYTHON" -m venv "$SCRATCH/lily" && "$SCRATCH/lily/bin/pip" install -q -e "$ROOT[dev]"
}
export -f install_peer install_lily
export ROOT PYTHON SCRATCH PEER_PACKAGE

if ! "$PYTHON" -c 'import torch, torchaudio, av, soundfile, scipy, safetensors, pytest' 2>/dev/null; then
  step install 400 bash -c install_lily && PYTHON=$SCRATCH/lily/bin/python
fi

step device 60 "$PYTHON" -c "
import json
from lily.evaluation.machine import machine, versions
from lily.inference.device import choose_device
device = choose_device('$DEVICE')
print(json.dumps({'device': str(device), 'machine': machine(device), 'versions': versions()}))"
# shellcheck disable=SC2086 # TESTS may be several paths
step pytest 240 env -C "$ROOT" "$PYTHON" -m pytest -m gpu -rs $TESTS

if [ -z "$MODEL" ]; then
  step weights 300 "$PYTHON" "$ROOT/benchmarks/random_weights.py" "$SCRATCH/weights"
  MODEL=$SCRATCH/weights/audiosr-random
else
  PEER=skip
fi
for precision in bf16 fp32; do
  step "bench-$precision" 300 "$PYTHON" -m lily bench --weights "$MODEL" --device "$DEVICE" \
    --precision "$precision" --seconds "$AUDIO_SECONDS" --rounds "$ROUNDS" --json
done

if [ -z "$PEER" ]; then
  step install-peer 400 bash -c install_peer
  PEER=$SCRATCH/peer/bin/python
fi
if [ "$PEER" != skip ]; then
  step side-by-side 420 "$PYTHON" "$ROOT/benchmarks/side_by_side.py" --audiosr "$PEER" \
    --weights "$SCRATCH/weights" --device "$DEVICE" --rounds "$ROUNDS"
fi
if [ $# -gt 0 ]; then
  step train "$BUDGET" "$PYTHON" -m lily train --device "$DEVICE" --out "$OUT/train" "$@"
fi

"$PYTHON" "$ROOT/benchmarks/gpu_summary.py" "$OUT"; failed=$?
find "$OUT" -type f -size +"$SHARD" -print0 | while IFS= read -r -d '' file; do
  split -b "$SHARD" -d -a 4 "$file" "$file.part-" && rm "$file"
done
exit "$failed"
