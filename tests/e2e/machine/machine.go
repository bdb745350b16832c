// Package machine brings up the real Kubernetes that the tests run on: the program in tests/cluster, called as a person
// calls it.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// BinVariable names a folder with kubectl and helm, instead of those that tests/cluster builds.
const BinVariable = "SIDEGRID_CLUSTER_BIN"

// ClusterVariable names the folder of a cluster that is up already; the tests then leave it up.
const ClusterVariable = "SIDEGRID_E2E_CLUSTER"

// downLimit bounds taking a cluster down.
const downLimit = 3 * time.Minute

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
	tool, err := build(ctx)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(filepath.Dir(tool))
	out, err := run(ctx, tool, "build")
	if err != nil {
		return "", err
	}
	return lastLine(out), nil
}

// Machine is a cluster that is up.
type Machine struct {
	// Dir is the folder of its state.
	Dir string
	// Bin is the folder of kubectl and helm.
	Bin string

	tool string
	own  bool
}

// Up starts a cluster, or finds the one that ClusterVariable names. Whoever calls it calls Down, also after a failure.
func Up(ctx context.Context) (*Machine, error) {
	tool, err := build(ctx)
	if err != nil {
		return nil, err
	}
	m := &Machine{Dir: os.Getenv(ClusterVariable), tool: tool}
	out, err := m.run(ctx, "build")
	if err != nil {
		return m, err
	}
	m.Bin = lastLine(out)
	if m.Dir != "" {
		return m, nil
	}
	if m.Dir, err = os.MkdirTemp("", "sidegrid-e2e-cluster-"); err != nil {
		return m, err
	}
	m.own = true
	_, err = m.run(ctx, "up", "--dir", m.Dir)
	return m, err
}

// Down takes the cluster down if Up started it.
func (m *Machine) Down() error {
	ctx, cancel := context.WithTimeout(context.Background(), downLimit)
	defer cancel()
	var err error
	if m.own {
		if _, err = m.run(ctx, "down", "--dir", m.Dir); err == nil {
			err = os.RemoveAll(m.Dir)
		}
	}
	return errors.Join(err, os.RemoveAll(filepath.Dir(m.tool)))
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (m *Machine) Kubeconfig(ctx context.Context) (string, error) {
	out, err := m.run(ctx, "kubeconfig", "--dir", m.Dir)
	return lastLine(out), err
}

// Load puts images (OCI tars) on every node.
func (m *Machine) Load(ctx context.Context, tars ...string) error {
	_, err := m.run(ctx, append([]string{"load", "--dir", m.Dir}, tars...)...)
	return err
}

// Cut keeps a node and its pods from being reached and from reaching anything, until Heal.
func (m *Machine) Cut(ctx context.Context, node string) error {
	_, err := m.run(ctx, "cut", "--dir", m.Dir, node)
	return err
}

// Heal ends a cut.
func (m *Machine) Heal(ctx context.Context, node string) error {
	_, err := m.run(ctx, "heal", "--dir", m.Dir, node)
	return err
}

func (m *Machine) run(ctx context.Context, arguments ...string) (string, error) {
	return run(ctx, m.tool, arguments...)
}

// build makes the program once, in a folder of its own.
func build(ctx context.Context) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "sidegrid-e2e-tool-")
	if err != nil {
		return "", err
	}
	tool := filepath.Join(dir, "cluster")
	command := exec.CommandContext(ctx, "go", "build", "-o", tool, ".")
	command.Dir = filepath.Join(root, "tests", "cluster")
	if said, err := command.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("tests/cluster doesn't build: %w: %s", err, said), os.RemoveAll(dir))
	}
	return tool, nil
}

func run(ctx context.Context, tool string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, tool, arguments...)
	// An end in the middle is asked for first, so that the program can clean up.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = time.Minute
	if root, err := Root(); err == nil {
		command.Dir = filepath.Join(root, "tests", "cluster")
	}
	var out, said bytes.Buffer
	command.Stdout = io.MultiWriter(&out, os.Stderr)
	command.Stderr = io.MultiWriter(&said, os.Stderr)
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("tests/cluster %s: %w: %s", strings.Join(arguments, " "), err, lastLine(said.String()))
	}
	return out.String(), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
