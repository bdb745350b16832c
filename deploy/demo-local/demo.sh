#!/usr/bin/env bash
# Builds what the demo runs and starts it. DEMO_EXIT=1 ends it after the show; else it stays up until Ctrl-C.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

if [ -z "${SIDEGRID_BIN:-}" ] || [ ! -x "${SIDEGRID_BIN}" ]; then
  echo "Building the sidecar (some minutes the first time) ..."
  make -C "$root" sidecar
  SIDEGRID_BIN=$target/$(rustc -vV | sed -n 's/^host: //p')/fast/sidegrid
fi
export SIDEGRID_BIN SESSIONS_BIN=$target/demo/sessions
(cd "$root/deploy/examples/sessions" && go build -o "$SESSIONS_BIN" .)
(cd "$here" && go build -o "$target/demo/demo" .)

# In place of this shell: a signal meant for the demo reaches the demo.
exec "$target/demo/demo"
