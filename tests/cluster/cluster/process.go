package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// intoGroup puts its own process into the control group $0 and becomes the rest. It is done before the program runs, so
// that nothing of it is ever outside.
const intoGroup = `echo $$ >"$0/cgroup.procs" && exec "$@"`

// starter starts the cluster's processes. One that ends while the cluster is being made ends the making.
type starter struct {
	cluster *Cluster
	fail    context.CancelCauseFunc
}

// start starts a process of the cluster, which outlives this one, and notes it. Its output goes to log/NAME.log.
func (s starter) start(name string, arguments ...string) (process, error) {
	c := s.cluster
	logPath := filepath.Join(c.folder, "log", name+".log")
	output, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, err
	}
	defer output.Close()
	command := exec.Command("/bin/sh", append([]string{"-c", intoGroup, c.groups.daemons()}, arguments...)...)
	command.Dir = c.folder
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + c.folder}
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return process{}, fmt.Errorf("can't start %s: %w", name, err)
	}
	start, err := startTime(command.Process.Pid)
	go func() {
		ended := command.Wait()
		text, _ := os.ReadFile(logPath)
		s.fail(fmt.Errorf("%s has ended (%v), its log's last lines:\n%s", name, ended, tail(string(text), 15)))
	}()
	if err != nil {
		return process{}, fmt.Errorf("%s ended at once: %w", name, err)
	}
	started := process{Name: name, PID: command.Process.Pid, Start: start}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.state.Processes = append(c.state.Processes, started)
	return started, c.state.write(c.folder)
}

// program is the path of one that was built.
func (c *Cluster) program(name string) string { return filepath.Join(c.state.Bin, name) }

// flags makes a program's arguments of lines of words.
func flags(lines ...string) []string {
	var all []string
	for _, line := range lines {
		all = append(all, strings.Fields(line)...)
	}
	return all
}
