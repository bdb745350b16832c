// Package machine gives the tests the real Kubernetes that they run on (tests/cluster): a new one, or one that is up.
package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"example.com/sidegrid/cluster/cluster"
)

// BinVariable names a folder with kubectl and helm, instead of those that tests/cluster builds.
const BinVariable = "SIDEGRID_CLUSTER_BIN"

// InstanceVariable is the number of a cluster that is up already (`go run . --instance N up` in tests/cluster); the
// tests then leave it up.
const InstanceVariable = "SIDEGRID_E2E_CLUSTER"

// Root is the repository's folder.
func Root() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "tests", "cluster", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is in no repository that has tests/cluster", here)
		}
	}
}

// Programs is the folder of kubectl and helm. They are built first if they are not there, which takes some minutes.
func Programs(ctx context.Context) (string, error) {
	if bin := os.Getenv(BinVariable); bin != "" {
		return bin, nil
	}
	return cluster.Build(ctx, os.Stderr)
}

// Machine is a cluster that is up.
type Machine struct {
	*cluster.Cluster
	own bool
}

// Up starts a cluster that ends with this process at the latest, or opens the one that InstanceVariable names. If it
// fails, nothing is left.
func Up(ctx context.Context) (*Machine, error) {
	if text := os.Getenv(InstanceVariable); text != "" {
		instance, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%s is the number of an instance: %w", InstanceVariable, err)
		}
		opened, err := cluster.Open("", instance)
		return &Machine{Cluster: opened}, err
	}
	started, err := cluster.Up(ctx, cluster.Options{Instance: cluster.AnyInstance, Owned: true, Log: os.Stderr})
	if err != nil {
		return nil, err
	}
	return &Machine{Cluster: started, own: true}, nil
}

// End takes the cluster down if Up started it.
func (m *Machine) End() error {
	if !m.own {
		return nil
	}
	return m.Down()
}
