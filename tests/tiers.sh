#!/usr/bin/env bash
# Runs the named tiers one after the other (`make test-NAME` each), also after one has failed, and prints a line for
# each with its counts and time. Ends with "N passed, N failed"; exits 1 if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."

# Tiers that need root ask sudo, which could not ask back from where they run: so it is asked now, and kept.
if ((EUID != 0)) && command -v sudo >/dev/null; then
  sudo -v || exit 1
  while sleep 50; do sudo -n -v || exit; done &
  asking=$!
fi

logs="${CARGO_TARGET_DIR:-target}/tiers"
# No tier may take longer; one that hangs is ended, and counts as failed.
limit_s="${SIDEGRID_TIER_LIMIT:-2700}"
mkdir -p "$logs"
child=
asking=${asking:-}
trap '[ -z "$asking" ] || kill "$asking" 2>/dev/null' EXIT
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 130' INT TERM

# Counts of a log: cargo's result lines and Go's top-level tests; a tier with neither is one check.
counts() {
  awk -v status="$2" '
    /^test result:/ { passed += $4; failed += $6; seen = 1 }
    /^--- PASS:/ { passed++; seen = 1 }
    /^--- FAIL:/ { failed++; seen = 1 }
    END {
      if (!seen && status == 0) passed = 1
      if (status != 0 && failed == 0) failed = 1
      printf "%d %d\n", passed, failed
    }' "$1"
}

total_passed=0
total_failed=0
for tier in "$@"; do
  log="$logs/$tier.log"
  [ -t 1 ] && printf '      %-12s …\r' "$tier"
  began=$SECONDS
  timeout --kill-after=30 "$limit_s" make "test-$tier" >"$log" 2>&1 &
  child=$!
  wait "$child"
  status=$?
  child=
  took=$((SECONDS - began))
  read -r passed failed < <(counts "$log" "$status")
  total_passed=$((total_passed + passed))
  total_failed=$((total_failed + failed))
  word=ok
  ((failed == 0)) || word=FAIL
  printf '%-5s %-12s %5d passed %4d failed %4dm%02ds\n' "$word" "$tier" "$passed" "$failed" $((took / 60)) $((took % 60))
  if ((failed > 0)); then
    ((status != 124)) || echo "      ended after $limit_s s"
    echo "      of $log:"
    # What failed, where a test says so; a long log's end alone may be of tests that passed.
    grep --extended-regexp --after-context=30 '^---- .* stdout ----|^ *--- FAIL|^error' "$log" | head -n 150 | sed 's/^/      | /'
    echo "      and its end:"
    tail -n 30 "$log" | sed 's/^/      | /'
  fi
done

printf '%d tiers in %dm%02ds\n' "$#" $((SECONDS / 60)) $((SECONDS % 60))
echo "$total_passed passed, $total_failed failed"
((total_failed == 0))
