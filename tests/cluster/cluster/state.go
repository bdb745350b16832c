package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is one that `up` started. A process id alone may be another's by now; with its start time it can't be.
type process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Start is in clock ticks since the machine's start, as /proc has it.
	Start uint64 `json:"start"`
}

// state is what is known of an instance across processes; it is a file in the instance's folder.
type state struct {
	Nodes int    `json:"nodes"`
	Bin   string `json:"bin"`
	// Up is false while it is being made: without anybody at work, that is a ruin.
	Up bool `json:"up"`
	// Owned says that it belongs to the process that holds the lock and is a ruin without it.
	Owned     bool      `json:"owned"`
	Processes []process `json:"processes"`
	// Kernel has the settings of the whole machine that kubelet changes, as they were before.
	Kernel map[string]string `json:"kernel"`
}

// kernelSettings are those that kubelet sets for the whole machine at its start.
var kernelSettings = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

const stateFile = "state.json"

func readState(folder string) (state, error) {
	var s state
	text, err := os.ReadFile(filepath.Join(folder, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s isn't readable: %w", filepath.Join(folder, stateFile), err)
	}
	return s, nil
}

// write replaces the file in one step.
func (s state) write(folder string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	temporary := filepath.Join(folder, "."+stateFile)
	if err := os.WriteFile(temporary, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(folder, stateFile))
}

// readKernel notes the settings as they are.
func readKernel() map[string]string {
	found := map[string]string{}
	for _, name := range kernelSettings {
		if text, err := os.ReadFile("/proc/sys/" + name); err == nil {
			found[name] = strings.TrimSpace(string(text))
		}
	}
	return found
}

// restoreKernel sets back what differs.
func restoreKernel(before map[string]string) error {
	var failed error
	for name, value := range before {
		path := "/proc/sys/" + name
		now, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(now)) != value {
			err = os.WriteFile(path, []byte(value), 0o644)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// startTime reads when a process began, or fails when there is none of that id.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name is in brackets and may have any character, brackets too.
	_, rest, found := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is unlike any known", pid)
	}
	if fields[0] == "Z" {
		return 0, fs.ErrNotExist // it has ended; only its parent hasn't asked yet
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// alive says whether this very process runs.
func (p process) alive() bool {
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}
