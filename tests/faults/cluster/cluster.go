// Package cluster runs members as real processes in network namespaces of their own, for tests to hurt.
package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/sidegrid/faults/netns"
)

// Options are what a test may choose of a cluster.
type Options struct {
	// Name of the cluster; "faults" when empty.
	Name string
	// NamePrefix of its members; the cluster's name when empty.
	NamePrefix string
	// Members at first.
	Members int
	// Caches by name with their settings, as in the settings file; two caches by default, see DefaultCaches.
	Caches map[string]map[string]any
	// Settings that all members share beside the usual ones, by dotted path.
	Settings map[string]any
	// Fabric to join; one of its own when nil.
	Fabric *netns.Fabric
	// Registry file; one of its own when empty.
	Registry string
	// Announced are texts; a line of WARN or ERROR in a log must hold one of them, or the test fails.
	Announced []string
}

// DefaultCaches are a cache of two owners for sessions and one that all members hold.
func DefaultCaches() map[string]map[string]any {
	return map[string]map[string]any{
		"sessions": {"mode": "distributed", "owners": 2},
		"work":     {"mode": "replicated"},
	}
}

// Cluster is a set of members with one registry. It ends with its test.
type Cluster struct {
	T       testing.TB
	Fabric  *netns.Fabric
	Members []*Member
	// Dir holds settings, logs and state; it is kept when the test fails, and its name is logged.
	Dir string
	// Registry is the path of the registry file.
	Registry string

	options Options
	binary  string
}

// New makes a cluster and starts no member yet. The test is skipped when the binary is not built.
func New(t testing.TB, options Options) *Cluster {
	t.Helper()
	c := &Cluster{T: t, options: options, binary: Binary(t), Fabric: options.Fabric, Registry: options.Registry}
	if options.Name == "" {
		c.options.Name = "faults"
	}
	if options.NamePrefix == "" {
		c.options.NamePrefix = c.options.Name
	}
	if options.Caches == nil {
		c.options.Caches = DefaultCaches()
	}
	dir, err := os.MkdirTemp("", "sidegrid-"+strings.Map(plain, t.Name())+"-")
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = dir
	if c.Registry == "" {
		c.Registry = filepath.Join(dir, "registry", "document")
	}
	own := c.Fabric == nil
	if own {
		if c.Fabric, err = netns.New(); err != nil {
			t.Fatal(err)
		}
	}
	// Runs also when the test fails or panics: members first, then their network.
	t.Cleanup(func() { c.end(own) })
	for range options.Members {
		c.Add()
	}
	return c
}

// Start makes a cluster, starts its members and waits until they are one.
func Start(t testing.TB, options Options) *Cluster {
	t.Helper()
	c := New(t, options)
	for _, m := range c.Members {
		c.Must(m.Start())
	}
	c.WaitFormed(c.Members...)
	return c
}

func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// Binary is the program under test: SIDEGRID_BIN, else what was built last of profile `fast` and `debug`.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("SIDEGRID_BIN"); path != "" {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("SIDEGRID_BIN: %v", err)
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return absolute
	}
	newest, when := "", time.Time{}
	for _, pattern := range []string{"*-*/fast", "fast", "debug"} {
		for _, up := range []string{"../..", "../../.."} {
			paths, err := filepath.Glob(filepath.Join(up, "target", pattern, "sidegrid"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				if found, err := os.Stat(path); err == nil && found.ModTime().After(when) {
					newest, when = path, found.ModTime()
				}
			}
		}
	}
	if newest == "" {
		t.Fatal("there is no binary to test: build it (make sidecar), or name it in SIDEGRID_BIN")
	}
	absolute, err := filepath.Abs(newest)
	if err != nil {
		t.Fatal(err)
	}
	return absolute
}

// Add makes one more member on a node and machine of its own, and does not start it.
func (c *Cluster) Add() *Member {
	c.T.Helper()
	node, err := c.Fabric.Add()
	if err != nil {
		c.T.Fatal(err)
	}
	name := fmt.Sprintf("%s-%d", c.options.NamePrefix, len(c.Members)+1)
	m := newMember(name, c.binary, c.Dir, node)
	settings := map[string]any{
		"cluster.name":                 c.options.Name,
		"member.name":                  name,
		"member.machine":               "machine-" + name,
		"member.stateDir":              filepath.Join(c.Dir, name),
		"registry.kind":                "file",
		"registry.path":                c.Registry,
		"network.bindAddress":          node.Address.String(),
		"network.dataPort":             DataPort,
		"network.failureDetectionPort": FailureDetectionPort,
		"http.listen":                  apiAddress,
		"http.socket":                  filepath.Join(c.Dir, name, "http.sock"),
		"admin.listen":                 adminAddress,
	}
	for path, value := range c.options.Settings {
		settings[path] = value
	}
	tree := map[string]any{"caches": c.options.Caches}
	for path, value := range settings {
		put(tree, strings.Split(path, "."), value)
	}
	// JSON is YAML.
	text, err := json.MarshalIndent(tree, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Join(c.Dir, name), 0o700)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(c.Registry), 0o700)
	}
	if err == nil {
		err = os.WriteFile(m.config, text, 0o600)
	}
	c.Must(err)
	c.Members = append(c.Members, m)
	return m
}

func put(tree map[string]any, path []string, value any) {
	for _, name := range path[:len(path)-1] {
		below, there := tree[name].(map[string]any)
		if !there {
			below = map[string]any{}
			tree[name] = below
		}
		tree = below
	}
	tree[path[len(path)-1]] = value
}

// Must ends the test on an error.
func (c *Cluster) Must(err error) {
	c.T.Helper()
	if err != nil {
		c.T.Fatal(err)
	}
}

// end ends every process and the network, judges the logs, and keeps the folder of a failed test.
func (c *Cluster) end(ownFabric bool) {
	// Before the first is killed: the others may complain of that.
	logs := c.readLogs()
	for _, m := range c.Members {
		if m.Running() {
			_ = m.Resume()
		}
		if err := m.Kill(); err != nil {
			c.T.Error(err)
		}
	}
	if ownFabric {
		if err := c.Fabric.Close(); err != nil {
			c.T.Error(err)
		}
	}
	c.judge(logs)
	if c.T.Failed() || os.Getenv("SIDEGRID_FAULTS_KEEP") != "" {
		c.T.Logf("logs, settings and registry are kept in %s", c.Dir)
		return
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		c.T.Error(err)
	}
}
