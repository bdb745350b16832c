package cluster

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var expires = regexp.MustCompile(` expires \d+sec`)

// machine is what a cluster could leave on the machine: each line is one thing.
type machine map[string]bool

// others are what tests/faults and clusters call and number theirs.
var others = regexp.MustCompile(`sgf-|10\.98\.0\.0|sgk(\d)|unreachable 10\.(\d+)\.`)

// look notes what there is. Processes count when their command line names the folder. What belongs to tests/faults or to
// another cluster, which may be there at the same time, is left out.
func look(t *testing.T, instance int, folder string) machine {
	t.Helper()
	seen := machine{}
	note := func(kind, what string) {
		found := others.FindStringSubmatch(what)
		if found == nil || found[1] == strconv.Itoa(instance) || found[2] == strconv.Itoa(99+instance) {
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
		// A route that was advertised counts down.
		note("route", expires.ReplaceAllString(strings.TrimSpace(line), ""))
	}
	rules, err := run(context.Background(), "nft", "list", "tables")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(rules) {
		note("table", strings.TrimSpace(line))
	}
	// Another cluster needs them as they are.
	if clusters, err := filepath.Glob("/sys/class/net/sgk[0-9]"); err == nil && len(clusters) == 0 {
		for name, value := range readKernel() {
			note("setting", name+" = "+value)
		}
	}
	for _, line := range commands(folder) {
		note("process", line)
	}
	return seen
}

// commands gives the processes, but for this one, whose command line names a folder.
func commands(folder string) []string {
	var found []string
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		line := string(bytes.ReplaceAll(text, []byte{0}, []byte{' '}))
		if path != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) && strings.Contains(line, folder) {
			found = append(found, line)
		}
	}
	return found
}

// same fails the test with everything that is there now and wasn't, or the other way round.
func (before machine) same(t *testing.T, after machine) {
	t.Helper()
	// Settings are noted only without other clusters, which may come and go.
	setting := func(line string) bool { return strings.HasPrefix(line, "setting ") }
	both := slices.ContainsFunc(slices.Collect(maps.Keys(before)), setting) &&
		slices.ContainsFunc(slices.Collect(maps.Keys(after)), setting)
	for _, line := range slices.Sorted(maps.Keys(after)) {
		if !before[line] && (both || !setting(line)) {
			t.Errorf("left: %s", line)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(before)) {
		if !after[line] && (both || !setting(line)) {
			t.Errorf("gone: %s", line)
		}
	}
}
