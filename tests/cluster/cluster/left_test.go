package cluster

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is what a cluster could leave on the machine: each line is one thing.
type machine map[string]bool

// look notes what there is. Processes count when their command line names one of the folders. What tests/faults has,
// which may run at the same time, is left out.
func look(t *testing.T, folders ...string) machine {
	t.Helper()
	seen := machine{}
	note := func(kind, what string) {
		if !strings.Contains(what, "sgf-") && !strings.Contains(what, "10.98.0.0") {
			seen[kind+" "+what] = true
		}
	}
	for kind, pattern := range map[string]string{
		"namespace": "/run/netns/*", "link": "/sys/class/net/*", "cgroup": "/sys/fs/cgroup/*/sgk*", "cgroup2": "/sys/fs/cgroup/sgk*",
		"shim": "/run/containerd/*", "kubelet's": "/var/lib/kubelet/*", "network's": "/var/lib/cni/*", "log": "/var/log/containers/*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			note(kind, path)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		note("mount", strings.Fields(line)[4])
	}
	routes, err := run(context.Background(), "ip", "route", "show", "table", "all")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(routes) {
		note("route", strings.TrimSpace(line))
	}
	rules, err := run(context.Background(), "nft", "list", "tables")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(rules) {
		note("table", strings.TrimSpace(line))
	}
	for name, value := range readKernel() {
		note("setting", name+" = "+value)
	}
	for _, line := range commands(folders) {
		note("process", line)
	}
	return seen
}

// commands gives the processes, but for this one, whose command line names one of the folders.
func commands(folders []string) []string {
	var found []string
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		line := string(bytes.ReplaceAll(text, []byte{0}, []byte{' '}))
		mentions := func(folder string) bool { return strings.Contains(line, folder) }
		if path != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) && slices.ContainsFunc(folders, mentions) {
			found = append(found, line)
		}
	}
	return found
}

// same fails the test with everything that is there now and wasn't, or the other way round.
func (before machine) same(t *testing.T, after machine) {
	t.Helper()
	for _, line := range slices.Sorted(maps.Keys(after)) {
		if !before[line] {
			t.Errorf("left: %s", line)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(before)) {
		if !after[line] {
			t.Errorf("gone: %s", line)
		}
	}
}
