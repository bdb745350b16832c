package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
)

// afterwards waits until nobody holds the other end of its input, and becomes the rest.
const afterwards = `cat >/dev/null; exec "$@"`

// watchdog is a process that removes ruins as soon as this process is gone, however that came about. It is outside of
// the cluster's control groups, and finds nothing to do after an orderly end.
type watchdog struct {
	line    io.Closer
	command *exec.Cmd
}

// watchOver starts the watchdog of an owned cluster.
func (c *Cluster) watchOver(ctx context.Context) error {
	tool := filepath.Join(c.folder, "tool")
	if err := buildStatic(ctx, ".", tool); err != nil {
		return err
	}
	command := exec.Command("/bin/sh", "-c", afterwards, "sh", tool, "--dir", filepath.Dir(c.folder), "sweep")
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C at the owner isn't for it
	line, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return fmt.Errorf("can't start the watchdog: %w", err)
	}
	c.watchdog = &watchdog{line: line, command: command}
	return nil
}

// dismiss ends the watchdog once there is nothing left to watch over.
func (w *watchdog) dismiss() error {
	killed := w.command.Process.Kill()
	closed := w.line.Close()
	_ = w.command.Wait() // killed, as was meant
	return errors.Join(killed, closed)
}
