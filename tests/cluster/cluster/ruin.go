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

// demolition bounds how long the removal of one cluster takes.
const demolition = time.Minute

// claim takes an instance: its lock, then its folder, with a state from which all that will be made can be removed.
func claim(ctx context.Context, options Options, bin string) (*Cluster, error) {
	if err := Sweep(options.Root); err != nil {
		return nil, err
	}
	wanted := []int{options.Instance}
	if options.Instance == AnyInstance {
		wanted = wanted[:0]
		for i := range maxInstances {
			wanted = append(wanted, i)
		}
	}
	var failed error
	for _, instance := range wanted {
		c, err := claimOne(options, instance, bin)
		if err == nil {
			return c, nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func claimOne(options Options, instance int, bin string) (c *Cluster, err error) {
	lock, err := lockOf(options.Root, instance)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	c = &Cluster{
		folder:  filepath.Join(options.Root, strconv.Itoa(instance)),
		network: network{instance: instance, nodes: options.Nodes},
		lock:    lock,
		state:   state{Nodes: options.Nodes, Bin: bin, Owned: options.Owned, Kernel: readKernel()},
	}
	if c.network.there() {
		return nil, fmt.Errorf("cluster %d is up (there is %s): end it with `down`, or choose another instance", instance, c.network.name())
	}
	if err := c.network.free(); err != nil {
		return nil, err
	}
	if c.groups, err = findCgroups(c.network.name()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.folder, 0o755); err != nil {
		return nil, err
	}
	return c, c.state.write(c.folder)
}

// instances gives the numbers of all instances that have a folder.
func instances(root string) ([]int, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found []int
	for _, entry := range entries {
		if number, err := strconv.Atoi(entry.Name()); err == nil && entry.IsDir() && number >= 0 && number < maxInstances {
			found = append(found, number)
		}
	}
	return found, err
}

// Sweep removes ruins: clusters that are half made by a process that is gone, or whose owner is gone. What is up by
// itself or in somebody's hands stays. `root` may be empty for DefaultRoot.
//
// # Errors
// When a ruin can't be removed.
func Sweep(root string) error {
	root, err := rootFolder(root)
	if err != nil {
		return err
	}
	found, failed := instances(root)
	for _, instance := range found {
		lock, err := lockOf(root, instance)
		if errors.Is(err, errBusy) {
			continue
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		folder := filepath.Join(root, strconv.Itoa(instance))
		s, err := readState(folder)
		if err != nil || !s.Up || s.Owned {
			failed = errors.Join(failed, demolish(folder, instance))
		}
		lock.Close()
	}
	return failed
}

// Down removes an instance, whatever state it is in; without any it does nothing. `root` may be empty for DefaultRoot.
//
// # Errors
// When another process makes or owns it, or something couldn't be removed: then call it again.
func Down(root string, instance int) error {
	root, err := rootFolder(root)
	if err != nil {
		return err
	}
	if instance < 0 || instance >= maxInstances {
		return fmt.Errorf("instance %d: it is 0 to %d", instance, maxInstances-1)
	}
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockOf(root, instance)
	if err != nil {
		return err
	}
	defer lock.Close()
	folder := filepath.Join(root, strconv.Itoa(instance))
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		// Without a folder here, what has the instance's names is another folder's.
		return removeLock(root, instance)
	}
	return demolish(folder, instance)
}

// demolish removes everything of an instance. Each step works on what is there, however little, and the state goes
// last, so that it can be done again after a failure. The caller holds the lock.
//
// Pods need no farewell: their processes are in the cluster's control groups, their mounts and network namespaces in
// mount namespaces that go with the last process of a node.
func demolish(folder string, instance int) error {
	ctx, cancel := context.WithTimeout(context.Background(), demolition)
	defer cancel()
	net := network{instance: instance}
	groups, err := findCgroups(net.name())
	if err != nil {
		return err
	}
	s, err := readState(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := groups.remove(ctx); err != nil {
		return err
	}
	if err := unmountAll(folder); err != nil {
		return err
	}
	if err := net.remove(ctx); err != nil {
		return err
	}
	// With another cluster up its kubelets go on needing them.
	if others, err := filepath.Glob("/sys/class/net/sgk[0-9]"); err == nil && len(others) == 0 {
		if err := restoreKernel(s.Kernel); err != nil {
			return err
		}
		for _, host := range hostFolders {
			_ = os.Remove(host) // only what was made for the mounts is empty
		}
	}
	// The state is the last to go: all before can be done again with it.
	entries, err := os.ReadDir(folder)
	for _, entry := range entries {
		if entry.Name() != stateFile {
			err = errors.Join(err, os.RemoveAll(filepath.Join(folder, entry.Name())))
		}
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	return removeLock(filepath.Dir(folder), instance)
}

// removeLock removes an instance's lock file while the lock is held, and the root folder after the last one.
func removeLock(root string, instance int) error {
	err := os.Remove(filepath.Join(root, strconv.Itoa(instance)+".lock"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	_ = os.Remove(root) // stays if it has anything in it
	return err
}

// mountsUnder gives what is mounted below a folder, the latest first.
func mountsUnder(folder string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	folder, err = filepath.EvalSymlinks(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], folder+"/") {
			found = append(found, fields[4])
		}
	}
	slices.Reverse(found)
	return found, err
}

// unmountAll takes down every mount below a folder. There should be none, since nodes have mount namespaces of their
// own; but what a folder is removed with must not reach into a mount.
func unmountAll(folder string) error {
	mounts, err := mountsUnder(folder)
	for _, mount := range mounts {
		if failed := syscall.Unmount(mount, syscall.MNT_DETACH); failed != nil {
			err = errors.Join(err, fmt.Errorf("can't unmount %s: %w", mount, failed))
		}
	}
	return err
}
