#!/bin/sh
# Make the environment that requirements/lock.txt describes; do nothing if it is already there.
# Usage: requirements/install.sh VENV    (the Makefile calls it; PYTHON=... chooses the interpreter)
#
# TORCH chooses another torch than the lock's, see docs/install.md. It is kept in VENV/.hsakd-torch,
# so that later calls need not name it:
#   cuda   the lock's, as without TORCH
#   cpu    the builds of both without CUDA; TORCH_INDEX=... names the index that has them
#   slim   the lock's builds, without the packages that they need on a GPU alone
#   'torch==... torchvision==...'   these versions, with whatever they require
#
# VENV/.hsakd-lock tells how far it got: a copy of what was asked for once all of it is installed, an
# empty file while an install is under way. Found empty, the last one was cut short and is redone.
set -eu
cd "$(dirname "$0")/.."
venv=$1
lock=requirements/lock.txt
stamp=$venv/.hsakd-lock
began=$(date +%s)

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
runs() { "$venv/bin/python" -c '' 2>/dev/null; }
ready() { choose && pins | cmp -s - "$stamp" && runs; }

# Sets had and torch: what the environment was made with, and what is to be in it.
choose() {
  had=$(cat "$venv/.hsakd-torch" 2>/dev/null || :)
  torch=${TORCH:-$had}
  case $torch in
    cuda) torch= ;;
    '' | cpu | slim | torch==*\ torchvision==*) ;;
    *) die "TORCH: expected cuda, cpu, slim or 'torch==... torchvision==...', got '$torch'" ;;
  esac
}

# The lines of the lock, for the torch that was chosen.
cuda='(triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)'
gpu_only='(triton|nvidia-cusolver|nvidia-cuda-nvrtc|nvidia-nvtx|cuda-bindings|cuda-pathfinder|cuda-toolkit)'
pins() {
  case $torch in
    '') cat "$lock" ;;
    slim) grep -vE "^$gpu_only==" "$lock" ;;
    cpu) grep -vE "^$cuda==" "$lock" | sed -E 's/^(torch|torchvision)==[^ ]+/&+cpu/' ;;
    *) printf '%s\n' $torch && # words are lines
      grep -vE "^(torch|torchvision|$cuda)==" "$lock" ;;
  esac
}

# Sets py. A name on the path is not enough: version managers leave names that do not run.
find_python() {
  if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3.11 python3.12 python3.13 python3 python; fi
  for py; do
    "$py" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' 2>/dev/null && return
  done
  die "found no Python 3.11, 3.12 or 3.13 that runs (tried: $*)." \
    'Install one, or name one: make PYTHON=/path/to/python3.11 ...'
}

# pip install with a progress bar on a terminal, and a sign of life every 30 s elsewhere.
install() {
  bar=on
  [ -t 1 ] || bar=off
  if [ $bar = off ]; then
    while sleep 30 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
      say "      ... still installing ($(($(date +%s) - began)) s)"
    done 9>&- &
    beat=$!
  fi
  status=0
  "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar $bar "$@" || status=$?
  [ $bar = on ] || kill $beat 2>/dev/null || true
  [ $status = 0 ] || die "pip failed, its own message is above. Once the cause is gone" \
    "(no network? disk full?), run the same command again; $venv is redone from the start."
}

if ready; then say "Environment: $venv is up to date."; exit; fi

# One install at a time in one place, also if two clones share VENV (flock is not everywhere).
mkdir -p "$(dirname "$venv")"
exec 9<"$(dirname "$venv")"
if command -v flock >/dev/null && ! flock -n 9; then
  say "Waiting for another install in $(dirname "$venv") ..."
  flock 9
  if ready; then exit; fi
fi

if [ -s "$stamp" ] && [ "$torch" = "$had" ] && runs; then
  say "[1/3] $lock has changed: updating $venv"
elif [ ! -e "$stamp" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
  die "$venv is not empty and was not made by this script. Remove it, or choose another place: make VENV=/path ..."
else
  find_python
  say "[1/3] creating $venv with $py ($("$py" --version))"
  rm -rf "$venv"
  mkdir -p "$venv"
  : >"$stamp"
  [ -z "$torch" ] || printf '%s\n' "$torch" >"$venv/.hsakd-torch"
  echo '*' >"$venv/.gitignore"
  if "$py" -c 'import ensurepip' 2>/dev/null; then
    "$py" -m venv "$venv"
  else # Debian's Python without python3-venv: its pip can fill an environment that has none
    "$py" -m venv --without-pip "$venv"
    "$py" -m pip --python "$venv/bin/python" install --disable-pip-version-check pip
  fi
fi
: >"$stamp"
pins >"$venv/pins.txt"
grep -E "^(torch|torchvision|$cuda)==" "$venv/pins.txt" >"$venv/torch.txt"
grep -vE "^(torch|torchvision|$cuda)==" "$venv/pins.txt" >"$venv/rest.txt"
case $torch in
  cpu)
    say '[2/3] torch and torchvision without CUDA'
    install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r "$venv/torch.txt"
    ;;
  *==*)
    say "[2/3] $torch (5 GB with the CUDA libraries, the first time 1 to 3 minutes)"
    install -c "$venv/rest.txt" -r "$venv/torch.txt"
    ;;
  *)
    say '[2/3] torch and torchvision (5 GB with the CUDA libraries, the first time 1 to 3 minutes)'
    install --no-deps -r "$venv/torch.txt"
    ;;
esac
say "[3/3] the other packages of $lock (the first time about 1 minute)"
export PIP_CONSTRAINT=requirements/build.txt PIP_BUILD_CONSTRAINT=requirements/build.txt # older, newer pip
install --no-deps -r "$venv/rest.txt"
# Two distributions own cv2/ and both are required by others. The headless one, which needs no
# libGL, has to be the last to write there.
install --no-deps --force-reinstall "$(grep '^opencv-python-headless==' "$lock")"
if [ "$torch" = slim ]; then # which lacks some of what torch says it requires
  "$venv/bin/python" -m pip check | grep -vE '^torch .* is not installed\.$' && exit 1
else
  "$venv/bin/python" -m pip check
fi
# A place shared by several clones must not point to one of them; the Makefile sets PYTHONPATH.
[ "$venv" != .venv ] || install --no-deps --no-build-isolation -e .
cp "$venv/pins.txt" "$stamp"
say "Environment ready in $venv ($(($(date +%s) - began)) s)."
