package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroups are a cluster's own control groups: one folder of the instance's name in every hierarchy, with `daemons` for
// the cluster's processes and one for each node's pods. Membership is by the kernel's hand and passes to children, so
// it also finds what was started by something that is dead: nothing else can tell a shim that was left behind.
type cgroups struct {
	// hierarchies are mount points: one on version 2, one for each controller on version 1.
	hierarchies []string
	// beside are version 2 mounts beside version 1: runtimes make groups there too, though nothing is controlled by them.
	beside  []string
	unified bool
	name    string
}

// findCgroups reads which version this machine has.
func findCgroups(name string) (cgroups, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}, err
	}
	found := cgroups{name: name}
	var second []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		separator := slices.Index(fields, "-")
		if separator < 5 || separator+1 >= len(fields) {
			continue
		}
		switch fields[separator+1] {
		case "cgroup":
			found.hierarchies = append(found.hierarchies, fields[4])
		case "cgroup2":
			second = append(second, fields[4])
		}
	}
	if len(found.hierarchies) == 0 {
		found.hierarchies, found.unified = second, true
	} else {
		found.beside = second
	}
	if len(found.hierarchies) == 0 {
		return cgroups{}, errors.New("no control groups are mounted: a node can't run here")
	}
	return found, nil
}

// daemons is the folder that the cluster's own processes are put into.
func (c cgroups) daemons() string {
	for _, hierarchy := range c.hierarchies {
		if filepath.Base(hierarchy) == "pids" {
			return filepath.Join(hierarchy, c.name, "daemons")
		}
	}
	return filepath.Join(c.hierarchies[0], c.name, "daemons")
}

// node is the path of a node's pods, as kubelet names it.
func (c cgroups) node(node string) string { return "/" + c.name + "/" + node }

// make makes the folders, with what a child needs before a process may be put into it.
func (c cgroups) make(nodes []string) error {
	for _, hierarchy := range c.hierarchies {
		root := filepath.Join(hierarchy, c.name)
		folders := []string{root, filepath.Join(root, "daemons")}
		for _, node := range nodes {
			folders = append(folders, filepath.Join(root, node))
		}
		if err := c.delegate(hierarchy); err != nil {
			return err
		}
		for i, folder := range folders {
			if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("can't make a control group: %w", err)
			}
			if err := inheritCPUs(folder); err != nil {
				return err
			}
			// All but `daemons`, which has processes, pass their controllers on.
			if i == 1 {
				continue
			}
			if err := c.delegate(folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// delegate gives a group's controllers to its children, which version 2 asks for.
func (c cgroups) delegate(folder string) error {
	if !c.unified {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(text)) {
		err := os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		if err != nil {
			return fmt.Errorf("controller %s isn't for children of %s (are there processes in it?): %w", controller, folder, err)
		}
	}
	return nil
}

// inheritCPUs fills in which processors and memory a version 1 group may use: it starts with none.
func inheritCPUs(folder string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(folder), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		own, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || strings.TrimSpace(string(own)) != "" || strings.TrimSpace(string(text)) == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// walk calls `each` with every folder of the cluster, children before parents.
func (c cgroups) walk(each func(folder string)) {
	for _, hierarchy := range slices.Concat(c.hierarchies, c.beside) {
		var folders []string
		// What vanishes while it is walked over is of no interest.
		_ = filepath.WalkDir(filepath.Join(hierarchy, c.name), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return nil
		})
		slices.Reverse(folders)
		for _, folder := range folders {
			each(folder)
		}
	}
}

// processes gives everything that runs in the cluster's groups.
func (c cgroups) processes() []int {
	seen := map[int]bool{}
	c.walk(func(folder string) {
		text, _ := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				seen[pid] = true
			}
		}
	})
	var all []int
	for pid := range seen {
		all = append(all, pid)
	}
	return all
}

// remove kills everything in the cluster's groups and removes them.
//
// # Errors
// When a process or a group is still there as the context ends.
func (c cgroups) remove(ctx context.Context) error {
	return until(ctx, 50*time.Millisecond, "can't end the cluster's processes", func() (bool, error) {
		left := c.processes()
		for _, pid := range left {
			// A process that has ended meanwhile is what is wanted.
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) > 0 {
			return false, fmt.Errorf("%d processes left: %v", len(left), left)
		}
		var last error
		c.walk(func(folder string) {
			if err := os.Remove(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
				last = err
			}
		})
		return last == nil, last
	})
}
