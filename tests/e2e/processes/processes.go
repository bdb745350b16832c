// Package processes finds processes of pods on this machine, which runs all nodes, to end them or to look out from where
// they are.
package processes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Kind tells processes apart by their command lines.
type Kind func(line []string) bool

// Kinds that the tests look for.
var (
	// Member is the sidecar's process that serves.
	Member Kind = func(line []string) bool { return runs(line, "sidegrid") && hasMemberOf(line) }
	// Supervisor is the sidecar's first process, with which its container ends.
	Supervisor Kind = func(line []string) bool {
		return runs(line, "sidegrid") && len(line) > 1 && line[1] == "serve" && !hasMemberOf(line)
	}
	// App is the example web service.
	App Kind = func(line []string) bool { return runs(line, "sessions") }
)

func runs(line []string, program string) bool {
	return len(line) > 0 && filepath.Base(line[0]) == program
}

func hasMemberOf(line []string) bool {
	return slices.ContainsFunc(line, func(word string) bool { return strings.HasPrefix(word, "--member-of") })
}

// OfPod gives the one process of this kind in the pod with this uid. Kubelet's control groups have the uid in their
// names, so no other pod's process is taken for it. None, or more than one, is an error.
func OfPod(uid string, kind Kind) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		groups, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cgroup"))
		if err != nil || !inPod(string(groups), uid) {
			continue // another one's, or gone
		}
		line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err == nil && kind(split(line)) {
			found = append(found, pid)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("pod %s has %d such processes: %v", uid, len(found), found)
	}
	return found[0], nil
}

// inPod says whether a process with these control groups is of the pod. The systemd driver writes the uid with `_`.
func inPod(groups, uid string) bool {
	return uid != "" && (strings.Contains(groups, "pod"+uid) || strings.Contains(groups, "pod"+strings.ReplaceAll(uid, "-", "_")))
}

func split(line []byte) []string {
	return strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
}

// State is the letter of a process's state (`Z`: ended and not waited for), or "" when it is gone.
func State(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The program's name, in brackets, may hold anything.
	after := text[bytes.LastIndexByte(text, ')')+1:]
	return string(bytes.TrimSpace(after)[:1])
}

// Network is the path of a process's network namespace.
func Network(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }
