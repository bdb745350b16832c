package netns

import (
	"os/exec"
	"runtime"
	"syscall"
)

// launches are handed to one thread that lives as long as this process: a child is killed when the *thread* that
// started it ends, and so it ends with the test process even if that is killed, and not before.
var launches = make(chan launch)

type launch struct {
	node    *Node
	command *exec.Cmd
	started chan error
}

func init() {
	go func() {
		runtime.LockOSThread()
		for l := range launches {
			l.started <- l.start()
		}
	}()
}

func (l launch) start() error {
	if l.command.SysProcAttr == nil {
		l.command.SysProcAttr = &syscall.SysProcAttr{}
	}
	// A group of its own: Ctrl-C reaches the test alone, which then ends what it started in its own order.
	l.command.SysProcAttr.Setpgid = true
	l.command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if l.node == nil {
		return l.command.Start()
	}
	home, err := enter(l.node.handle)
	if err != nil {
		return err
	}
	err = l.command.Start()
	if back := leave(home); back != nil {
		panic(back) // this thread would start everything else in the wrong namespace
	}
	return err
}

// Start starts a command within the node. It is killed when this process ends, however that comes about.
func (n *Node) Start(command *exec.Cmd) error {
	started := make(chan error)
	launches <- launch{node: n, command: command, started: started}
	return <-started
}

// StartHere starts a command in this process's own namespace, with the same guard.
func StartHere(command *exec.Cmd) error {
	started := make(chan error)
	launches <- launch{command: command, started: started}
	return <-started
}
