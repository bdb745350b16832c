package apps

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func init() {
	// The kernel kills a child when the thread that started it ends; main's thread ends last.
	runtime.LockOSThread()
}

// binary is the sidecar's program.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SIDEGRID_BIN")
	if path == "" {
		t.Fatal("SIDEGRID_BIN names no program; `make test-demo` builds it and says where it is")
	}
	return path
}

// dev starts `sidegrid dev`, waits until it serves, and ends it with the test.
func dev(t *testing.T) string {
	t.Helper()
	address := "127.0.0.1:" + freePort(t)
	command := exec.Command(binary(t), "dev", "--set", "http.listen="+address, "--set", "admin.listen=127.0.0.1:0")
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	for began := time.Now(); time.Since(began) < deadline; time.Sleep(10 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/v1/caches")
		if err == nil {
			_ = response.Body.Close()
			return "http://" + address
		}
	}
	t.Fatal("sidegrid dev does not answer")
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}
