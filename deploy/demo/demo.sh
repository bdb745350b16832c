#!/usr/bin/env bash
# The main job in a Kubernetes: brings up a small real one on this machine, installs the operator, runs three copies of a
# web service that keep their sessions in the cache, and shows that a session made through one pod is read through the
# others. It stays up; `make demo-down` ends it, DEMO_EXIT=1 runs what it prints and ends it after the show.
# CLUSTER=current uses the cluster that kubectl points at instead, and leaves its end to you; its nodes must be able to
# pull the images: IMAGES=registry.example.com/team says from where (NAME:VERSION as deploy/images/build.sh makes them).
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
cluster=${CLUSTER:-local}
instance=${DEMO_INSTANCE:-0}
target=${CARGO_TARGET_DIR:-$root/target}
program=$target/demo/cluster
namespace=demo
# Waits are for a busy machine of two cores; each names what it waited for when it is over.
patience=300s

fail() { echo "demo: $*" >&2; exit 1; }
step() { printf '\n== %s\n' "$*"; }

case $cluster in
  local)
    ((EUID == 0)) || command -v sudo >/dev/null || fail "a Kubernetes on this machine needs root or sudo (network
      namespaces, containerd); CLUSTER=current make demo uses the one that kubectl points at, make demo-local needs none"
    [ -z "${IMAGES:-}" ] || fail "IMAGES is for CLUSTER=current; here they are built and loaded"
    ;;
  current)
    command -v kubectl >/dev/null || fail "CLUSTER=current needs kubectl on the PATH"
    kubectl version --output=json >/dev/null 2>&1 || fail "kubectl can't reach the cluster that it points at"
    ;;
  *) fail "CLUSTER is \"$cluster\"; give local or current" ;;
esac

mkdir -p "$target/demo"
if [ "$cluster" = local ]; then
  if [ -z "${DEMO_BUILT:-}" ]; then
    step "Building Kubernetes, sidecar, operator and example app (the first time some 20 minutes on two cores, later seconds)"
    (cd tests/cluster && go build -o "$program" .)
    "$program" build
    deploy/images/build.sh >/dev/null
  fi
  if ((EUID != 0)); then
    # Built as who asks, so that nothing of root's is left in their folders; what follows is root's.
    exec sudo --preserve-env env "PATH=$PATH" "HOME=$HOME" "GOCACHE=$target/root/go" "KUBECACHEDIR=$target/root/kube" \
      DEMO_BUILT=1 "$root/deploy/demo/demo.sh"
  fi
  step "A real Kubernetes of three nodes, two zones"
  end() { "$program" --instance "$instance" down || true; }
  trap 'exit 130' INT TERM
  # It cleans up after itself when it fails; one that is up already is left as it is.
  "$program" --instance "$instance" up || fail "a demo that is up already is ended by make demo-down"
  # What was begun and does not come to its end leaves nothing.
  trap end EXIT
  "$program" --instance "$instance" load "$target"/images/{sidecar,operator,sessions}.tar
  KUBECONFIG=$("$program" --instance "$instance" kubeconfig)
  export KUBECONFIG
  bin=$("$program" build)
  PATH=$bin:$PATH
  shown="${DEMO_BUILT:+sudo }env KUBECONFIG=$KUBECONFIG $bin/kubectl"
else
  shown=kubectl
fi

# images TEXT: with the names under which CLUSTER=current finds the images.
images() {
  if [ -n "${IMAGES:-}" ]; then sed "s#sidegrid\.dev/\(sidecar\|operator\|sessions\):#${IMAGES%/}/\1:#g"; else cat; fi
}

step "Installing the operator: kubectl apply -k deploy/kustomize/default"
kubectl kustomize deploy/kustomize/default | images | kubectl apply -f - >/dev/null
kubectl wait --for=condition=Established crd/cacheclusters.sidegrid.dev --timeout="$patience" >/dev/null
kubectl --namespace sidegrid-system rollout status deployment/sidegrid-operator --timeout="$patience"
bundle() {
  kubectl get mutatingwebhookconfiguration sidegrid --output=jsonpath='{.webhooks[0].clientConfig.caBundle}'
}
for ((i = 0; i < 120; i++)); do
  [ -z "$(bundle)" ] || break
  sleep 0.5
done
[ -n "$(bundle)" ] || fail "the operator has not put its authority into the webhook; see kubectl -n sidegrid-system logs deployment/sidegrid-operator"

step "A cache and three copies of a web service: kubectl apply -f deploy/examples/sessions/kubernetes.yaml"
kubectl create namespace "$namespace" --dry-run=client --output=yaml | kubectl apply -f - >/dev/null
images <deploy/examples/sessions/kubernetes.yaml | kubectl --namespace "$namespace" apply -f -
kubectl --namespace "$namespace" rollout status deployment/web --timeout="$patience"
kubectl --namespace "$namespace" wait --for=condition=Ready cachecluster/web --timeout="$patience" >/dev/null
kubectl --namespace "$namespace" get pods --selector app=web --output wide
kubectl --namespace "$namespace" get cachecluster web

step "A session made through one pod is read through the others"
mapfile -t pods < <(kubectl --namespace "$namespace" get pods --selector app=web --field-selector status.phase=Running \
  --output=jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}')
((${#pods[@]} == 3)) || fail "there are ${#pods[@]} pods, not 3"

# ask POD COMMAND...: runs curl against that pod by a port that kubectl forwards for as long as the command takes.
ask() {
  local pod=$1 log port forward status=0
  shift
  log=$(mktemp)
  kubectl --namespace "$namespace" port-forward "pod/$pod" :8080 >"$log" 2>&1 &
  forward=$!
  for ((i = 0; i < 100; i++)); do
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$log" | head -n 1)
    [ -z "$port" ] || break
    sleep 0.1
  done
  [ -n "$port" ] || { cat "$log" >&2; kill "$forward" 2>/dev/null; fail "no port to $pod"; }
  "$@" "$port" || status=$?
  kill "$forward" 2>/dev/null
  wait "$forward" 2>/dev/null || true
  rm -f "$log"
  return "$status"
}
jar=$(mktemp)
login() { curl --silent --show-error --fail --output /dev/null --cookie-jar "$jar" --data user=alice "http://127.0.0.1:$1/login"; }
session() { curl --silent --show-error --fail --cookie "$jar" "http://127.0.0.1:$1/session"; }
ask "${pods[0]}" login || fail "the login at ${pods[0]} failed"
echo "alice logged in at ${pods[0]}"
for pod in "${pods[@]}"; do
  found=$(ask "$pod" session) || fail "$pod does not know the session"
  echo "  $pod: $found"
  [[ $found == *alice* ]] || fail "$pod shows another session"
done

step "That pod is deleted, without any grace"
kubectl --namespace "$namespace" delete pod "${pods[0]}" --grace-period=0 --force >/dev/null 2>&1
for pod in "${pods[@]:1}"; do
  found=$(ask "$pod" session) || fail "$pod lost the session"
  echo "  $pod: $found"
done
kubectl --namespace "$namespace" rollout status deployment/web --timeout="$patience"
rm -f "$jar"

step "It works. Try next:"
try=(
  "-n $namespace get cachecluster web -o yaml          # members, nodes, what each cache survives"
  "-n $namespace get pods -o wide"
  "-n $namespace logs -l app=web -c sidegrid --tail=5  # the grid's own log"
  "explain cachecluster.spec.caches"
  "-n $namespace rollout restart deployment/web        # loses no session"
)
printf "  $shown %s\n" "${try[@]}"
if [ "${DEMO_EXIT:-}" = 1 ]; then
  # Each as it was printed.
  for line in "${try[@]}"; do
    bash -c "$shown $line" >/dev/null || fail "what was printed does not work: $shown $line"
  done
  exit 0
fi
if [ "$cluster" = local ]; then
  trap - EXIT
  echo "  make demo-down                                             # ends it, and leaves nothing"
else
  cat <<TRY
  kubectl delete namespace $namespace && kubectl delete -k deploy/kustomize/default   # ends it
TRY
fi
