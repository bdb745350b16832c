package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"example.com/sidegrid/e2e/kube"
)

// Kinds of processes in a pod, by their command lines.
var (
	memberProcess     = func(line []string) bool { return runs(line, "sidegrid") && hasMemberOf(line) }
	supervisorProcess = func(line []string) bool {
		return runs(line, "sidegrid") && len(line) > 1 && line[1] == "serve" && !hasMemberOf(line)
	}
	appProcess = func(line []string) bool { return runs(line, "sessions") }
)

func runs(line []string, program string) bool {
	return len(line) > 0 && filepath.Base(line[0]) == program
}

func hasMemberOf(line []string) bool {
	return slices.ContainsFunc(line, func(word string) bool { return strings.HasPrefix(word, "--member-of") })
}

// process finds the one process of a pod that is of this kind. Kubelet's control groups have the pod's uid in their
// names, so no other pod's process is taken for it.
func (s *space) process(pod *kube.Pod, is func(line []string) bool) int {
	s.t.Helper()
	entries, err := os.ReadDir("/proc")
	s.must(err)
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		groups, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cgroup"))
		if err != nil || !inPod(string(groups), pod.Metadata.UID) {
			continue // another one's, or gone
		}
		line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err == nil && is(strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")) {
			found = append(found, pid)
		}
	}
	if len(found) != 1 {
		s.t.Fatalf("%s has %d such processes: %v", pod.Metadata.Name, len(found), found)
	}
	return found[0]
}

// inPod says whether a process with these control groups is of the pod. The systemd driver writes the uid with `_`.
func inPod(groups, uid string) bool {
	return strings.Contains(groups, "pod"+uid) || strings.Contains(groups, "pod"+strings.ReplaceAll(uid, "-", "_"))
}

// kill ends a process at once.
func (s *space) kill(pid int) {
	s.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatalf("killing %d: %v", pid, err)
	}
}

// networkOf is the path of a process's network namespace.
func networkOf(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

// stateOf is the letter of a process's state in /proc/PID/stat, or "" when it is gone.
func stateOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return after[:min(1, len(after))]
}
