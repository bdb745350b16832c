#!/usr/bin/env bash
# Builds the static binaries and packs one image of each: target/images/NAME.tar (OCI), named sidegrid.dev/NAME:VERSION.
#   deploy/images/build.sh [NAME...]      NAME: sidecar, operator, sessions; all by default
# No container engine is needed. The Containerfiles beside it say the same to those who have one.
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A binary=([sidecar]=sidegrid [operator]=sidegrid-operator [sessions]=sessions)
(($# > 0)) || set -- sidecar operator sessions

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ -n "$version" ] || { echo "Cargo.toml has no version of the workspace" >&2; exit 1; }
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/target}
out=$target/images
locked=()
[ -z "${CI:-}" ] || locked=(--locked)
mkdir -p "$out"

# rust PACKAGE: names the target although it is the host's own, or build scripts would get the flag too.
rust() {
  RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --quiet --profile fast "${locked[@]}" --target "$host" --package "$1"
  cp "$target/$host/fast/$1" "$out/"
}

for name in "$@"; do
  case $name in
    sidecar | operator) rust "${binary[$name]}" ;;
    sessions) (cd deploy/examples/sessions && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/sessions" .) ;;
    *) echo "no image is called $name; there are: ${!binary[*]}" >&2; exit 64 ;;
  esac
  # A binary that asks for a loader starts on this machine and not in an empty image.
  if readelf --program-headers "$out/${binary[$name]}" | grep -q INTERP; then
    echo "$out/${binary[$name]} is not static" >&2
    exit 1
  fi
  (cd tests/cluster && go run . image "sidegrid.dev/$name:$version" "$out/${binary[$name]}" "$out/$name.tar")
  echo "$out/$name.tar: sidegrid.dev/$name:$version"
done
