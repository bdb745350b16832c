package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/netns"
)

// Addresses of a member's own ports; the API's is loopback, in the namespace of its node.
const (
	apiAddress   = "127.0.0.1:7080"
	adminAddress = "127.0.0.1:7990"
	// DataPort and FailureDetectionPort are the ports between members.
	DataPort             = 7800
	FailureDetectionPort = 57800
)

// connections bounds how many connections a test's client keeps to one member.
const connections = 64

// Member is one `sidegrid serve` in a node of its own: a supervisor and the member process that it keeps alive.
type Member struct {
	Name string
	Node *netns.Node
	// API is a client within the member's namespace.
	API *client.Client
	// Admin is the same for the admin port.
	Admin *client.Client

	binary string
	config string // settings file
	log    string // its standard error, over all starts

	mu      sync.Mutex
	process *process
}

// process is one start of the supervisor.
type process struct {
	command *exec.Cmd
	ended   chan struct{} // closed once it was waited for
}

func newMember(name, binary, dir string, node *netns.Node) *Member {
	return &Member{
		Name: name, Node: node, binary: binary,
		config: filepath.Join(dir, name+".yaml"),
		log:    filepath.Join(dir, name+".log"),
		API:    client.New(node.DialContext, apiAddress, connections),
		Admin:  client.New(node.DialContext, adminAddress, connections),
	}
}

// Start starts the supervisor. The member of an earlier start must have ended.
func (m *Member) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return fmt.Errorf("%s runs already", m.Name)
	}
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(m.binary, "serve", "--config", m.config)
	command.Env = environment()
	command.Stdout, command.Stderr = log, log
	if err := m.Node.Start(command); err != nil {
		return fmt.Errorf("can't start %s: %w", m.Name, err)
	}
	p := &process{command: command, ended: make(chan struct{})}
	go func() {
		_ = command.Wait() // how it ended is in the process state
		close(p.ended)
	}()
	m.process = p
	return nil
}

// environment is what a child sees: nothing of the tests' own settings, which begin as the product's do.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "RUST_BACKTRACE=1"}
}

// Running says whether the supervisor runs.
func (m *Member) Running() bool {
	p := m.current()
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (m *Member) current() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process
}

// Supervisor is the supervisor's process id.
//
// # Errors
// When it does not run.
func (m *Member) Supervisor() (int, error) {
	if !m.Running() {
		return 0, fmt.Errorf("%s does not run", m.Name)
	}
	return m.current().command.Process.Pid, nil
}

// Process is the id of the member process below the supervisor.
//
// # Errors
// When there is none just now, for instance between its death and its restart.
func (m *Member) Process() (int, error) {
	parent, err := m.Supervisor()
	if err != nil {
		return 0, err
	}
	children := childrenOf(parent)
	if len(children) != 1 {
		return 0, fmt.Errorf("the supervisor of %s has %d children", m.Name, len(children))
	}
	return children[0], nil
}

// KillMember kills the member process alone and waits for its end; its supervisor is to start it again.
func (m *Member) KillMember() error {
	pid, err := m.Process()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return Await(10*time.Second, func() error {
		if anyAlive([]int{pid}) {
			return fmt.Errorf("process %d of %s does not end", pid, m.Name)
		}
		return nil
	})
}

// Kill kills supervisor and member together and waits for their end.
func (m *Member) Kill() error {
	p := m.current()
	if p == nil {
		return nil
	}
	supervisor := p.command.Process.Pid
	// The supervisor is stopped first, and has stopped, so that it can't start another member between the two kills.
	all := []error{ignoreGone(syscall.Kill(supervisor, syscall.SIGSTOP)), awaitStopped(m.Name, supervisor)}
	children := childrenOf(supervisor)
	for _, child := range children {
		all = append(all, ignoreGone(syscall.Kill(child, syscall.SIGKILL)))
	}
	all = append(all, ignoreGone(p.command.Process.Kill()))
	all = append(all, m.gone(p, children))
	return errors.Join(all...)
}

// gone waits until a killed supervisor and its children have ended and forgets them.
func (m *Member) gone(p *process, children []int) error {
	deadline := time.After(10 * time.Second)
	for {
		select {
		case <-p.ended:
			if !anyAlive(children) {
				m.mu.Lock()
				m.process = nil
				m.mu.Unlock()
				m.API.Close()
				m.Admin.Close()
				return nil
			}
			time.Sleep(time.Millisecond) // a look at /proc is all there is to wait on for a grandchild
		case <-deadline:
			return fmt.Errorf("%s does not end", m.Name)
		}
	}
}

// Pause stops supervisor and member, as a suspended machine would stop them, and returns once they have stopped.
func (m *Member) Pause() error {
	stopped, err := m.signalBoth(syscall.SIGSTOP)
	if err != nil {
		return err
	}
	return awaitStopped(m.Name, stopped...)
}

// awaitStopped waits until processes have stopped, or ended: a signal is not there at once.
func awaitStopped(who string, pids ...int) error {
	return Await(10*time.Second, func() error {
		for _, pid := range pids {
			if state, _ := processState(pid); state != 'T' && state != 'Z' && state != 0 {
				return fmt.Errorf("process %d of %s does not stop", pid, who)
			}
		}
		return nil
	})
}

// Resume ends a pause.
func (m *Member) Resume() error {
	_, err := m.signalBoth(syscall.SIGCONT)
	return err
}

func (m *Member) signalBoth(signal syscall.Signal) ([]int, error) {
	supervisor, err := m.Supervisor()
	if err != nil {
		return nil, err
	}
	reached := append([]int{supervisor}, childrenOf(supervisor)...)
	var all []error
	for _, pid := range reached {
		all = append(all, ignoreGone(syscall.Kill(pid, signal)))
	}
	return reached, errors.Join(all...)
}

// Drain runs `sidegrid drain` for the member: it hands over and leaves, and goes on as a client.
func (m *Member) Drain(timeout time.Duration) error {
	command := exec.Command(m.binary, "drain", "--config", m.config, "--timeout", strconv.Itoa(int(timeout.Seconds()))+"s")
	command.Env = environment()
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := m.Node.Start(command); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("drain of %s: %w: %s", m.Name, err, said.String())
		}
		return nil
	case <-time.After(timeout + 10*time.Second):
		_ = command.Process.Kill()
		return fmt.Errorf("drain of %s outlives its own timeout: %s", m.Name, said.String())
	}
}

// Stop ends the member in order, with SIGTERM to its supervisor, and gives its exit code.
func (m *Member) Stop(patience time.Duration) (int, error) {
	p := m.current()
	if p == nil {
		return 0, nil
	}
	children := childrenOf(p.command.Process.Pid)
	if err := ignoreGone(p.command.Process.Signal(syscall.SIGTERM)); err != nil {
		return 0, err
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		return 0, errors.Join(fmt.Errorf("%s does not end within %s of SIGTERM", m.Name, patience), m.Kill())
	}
	err := m.gone(p, children)
	return p.command.ProcessState.ExitCode(), err
}

// RSS is the member process's resident memory in bytes.
func (m *Member) RSS() (int64, error) {
	pid, err := m.Process()
	if err != nil {
		return 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("/proc tells no memory of %s", m.Name)
}

// childrenOf are the processes whose parent is `parent` and that have not ended.
func childrenOf(parent int) []int {
	entries, _ := os.ReadDir("/proc")
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if state, ppid := processState(pid); ppid == parent && state != 'Z' {
			found = append(found, pid)
		}
	}
	return found
}

// processState is a process's state letter and parent; zeros when there is none.
func processState(pid int) (state byte, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The name in brackets may hold anything; the fields begin behind the last one.
	_, fields, found := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	if !found {
		return 0, 0
	}
	if _, err := fmt.Sscanf(string(fields), "%c %d", &state, &parent); err != nil {
		return 0, 0
	}
	return state, parent
}

// anyAlive says whether one of the processes still has a thread. The first thread may be gone before the others, and
// with them the ports that they listen on.
func anyAlive(pids []int) bool {
	for _, pid := range pids {
		state, _ := processState(pid)
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if state != 0 && (state != 'Z' || len(threads) > 1) {
			return true
		}
	}
	return false
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
