package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Processes are what the demo started. Everything is ended by its own process id, and by the kernel if the demo
// itself is killed.
type Processes struct {
	dir     string
	running []*Process
	starts  chan start
}

// Process is one started program.
type Process struct {
	Name string
	Log  string

	command *exec.Cmd
	ended   chan struct{}
	killed  bool // by Kill, so that its end surprises nobody
}

type start struct {
	command *exec.Cmd
	started chan error
}

// NewProcesses keeps the logs of what it starts in a folder.
func NewProcesses(dir string) *Processes {
	p := &Processes{dir: dir, starts: make(chan start)}
	go func() {
		// The kernel kills a child when the *thread* that started it ends, so one thread starts them all and stays.
		runtime.LockOSThread()
		for s := range p.starts {
			s.started <- s.command.Start()
		}
	}()
	return p
}

// Start starts a program with the given environment beside the usual paths; its output goes to a log file.
func (p *Processes) Start(name string, environment []string, program string, arguments ...string) (*Process, error) {
	one := &Process{Name: name, Log: filepath.Join(p.dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(one.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	one.command = exec.Command(program, arguments...)
	// Not the demo's own environment: a variable that begins with SIDEGRID_ would be read as a setting.
	one.command.Env = append(environment, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	one.command.Stdout, one.command.Stderr = log, log
	// A process group of its own keeps a terminal's Ctrl-C from it: the demo ends it in order instead.
	one.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s := start{command: one.command, started: make(chan error)}
	p.starts <- s
	if err := <-s.started; err != nil {
		return nil, fmt.Errorf("can't start %s: %w", name, err)
	}
	go func() {
		_ = one.command.Wait() // how it ended is in its log
		close(one.ended)
	}()
	p.running = append(p.running, one)
	return one, nil
}

// Ended says whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Kill kills a program and its children with SIGKILL, all at once, as the loss of a machine would.
func (p *Process) Kill() {
	p.killed = true
	pid := p.command.Process.Pid
	// Stopped first, so that it can't start another child between the two kills.
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for _, child := range children(pid) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = p.command.Process.Kill()
	<-p.ended
}

// EndAll asks everything to end, waits a little, and kills what is left.
func (p *Processes) EndAll() {
	for _, one := range p.running {
		if !one.Ended() {
			_ = one.command.Process.Signal(syscall.SIGTERM)
		}
	}
	patience := time.After(10 * time.Second)
	for _, one := range p.running {
		select {
		case <-one.ended:
		case <-patience:
			// The channel gives its value once; from here on nobody is waited for.
			patience = closed
			one.Kill()
		}
	}
}

var closed = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// Dead says which program has ended though nobody killed it.
func (p *Processes) Dead() error {
	for _, one := range p.running {
		if one.Ended() && !one.killed {
			return fmt.Errorf("%s has ended; the end of its log:\n%s", one.Name, tail(one.Log))
		}
	}
	return nil
}

// tail is the end of a log file.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// children are the processes that a process has started and that have not ended.
func children(parent int) []int {
	entries, _ := os.ReadDir("/proc")
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		// The name in brackets may hold anything; the fields begin behind the last one.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) && fields[0] != "Z" {
			found = append(found, pid)
		}
	}
	return found
}
