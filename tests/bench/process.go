package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a started program under test.
type Server struct {
	Address string // of the HTTP port
	admin   string
	command *exec.Cmd
}

func init() {
	// The kernel kills a child when the thread that started it ends; main's thread ends last.
	runtime.LockOSThread()
}

func start(command *exec.Cmd) error {
	// A variable that begins with SIDEGRID_ would be read as a setting.
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command.Start()
}

// StartMember starts a cluster of one member with its files in `dir`, waits until it serves, and says how long that took.
func StartMember(binary, dir string) (*Server, time.Duration, error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, 0, err
	}
	s := &Server{Address: local(ports[0]), admin: local(ports[1])}
	log, err := os.OpenFile(filepath.Join(dir, "member.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	arguments := []string{"serve"}
	for _, setting := range []string{
		"cluster.name=bench", "member.name=bench-1", "member.stateDir=" + dir,
		"registry.path=" + filepath.Join(dir, "document"),
		"network.bindAddress=LOOPBACK",
		fmt.Sprint("network.dataPort=", ports[2]), fmt.Sprint("network.failureDetectionPort=", ports[3]),
		"http.listen=" + s.Address, "http.socket=" + filepath.Join(dir, "http.sock"), "admin.listen=" + s.admin,
		"caches.sessions.mode=distributed", "caches.sessions.owners=2",
		"caches.near.mode=local",
	} {
		arguments = append(arguments, "--set", setting)
	}
	s.command = exec.Command(binary, arguments...)
	s.command.Stderr = log
	began := time.Now()
	if err := start(s.command); err != nil {
		return nil, 0, err
	}
	for time.Since(began) < 30*time.Second {
		response, err := http.Get("http://" + s.admin + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return s, time.Since(began), nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	s.Stop()
	text, _ := os.ReadFile(log.Name())
	return nil, 0, fmt.Errorf("the member is not ready after 30 s; its log:\n%s", text)
}

// freePorts are ports of loopback that nobody listens on.
func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		listener, err := net.Listen("tcp", local(0))
		if err != nil {
			return nil, err
		}
		// Kept until all are found, so that none is found twice.
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// StartBare starts the bare server with the body and the header lines that it shall answer.
func StartBare(binary string, body []byte, headers []string) (*Server, error) {
	s := &Server{command: exec.Command(binary, append([]string{string(body)}, headers...)...)}
	s.command.Stderr = os.Stderr
	out, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(s.command); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("the bare server says no address: %w", err)
	}
	s.Address = strings.TrimSpace(line)
	return s, nil
}

// Stop ends the program: in order, or by force after a while.
func (s *Server) Stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	force := time.AfterFunc(30*time.Second, func() { _ = s.command.Process.Kill() })
	defer force.Stop()
	_ = s.command.Wait()
}

// pids are the program's process and its children: supervisor and member.
func (s *Server) pids() []int {
	own := s.command.Process.Pid
	found := []int{own}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if fields := statFields(pid); len(fields) > 1 && fields[1] == strconv.Itoa(own) {
			found = append(found, pid)
		}
	}
	return found
}

// statFields are the fields of /proc/PID/stat behind the name: state, parent, ...
func statFields(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// CPU is the processor time that supervisor and member have used.
func (s *Server) CPU() time.Duration {
	var ticks int64
	for _, pid := range s.pids() {
		if fields := statFields(pid); len(fields) > 12 {
			for _, field := range fields[11:13] { // user and system time, in ticks of 10 ms
				n, _ := strconv.ParseInt(field, 10, 64)
				ticks += n
			}
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// Memory is a figure of /proc/PID/smaps_rollup, such as Rss or Pss, in bytes, for each of the program's processes.
func (s *Server) Memory(name string) []int64 {
	var found []int64
	for _, pid := range s.pids() {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(text)) {
			if rest, ours := strings.CutPrefix(line, name+":"); ours {
				kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				found = append(found, kib<<10)
			}
		}
	}
	return found
}
