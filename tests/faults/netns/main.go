package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside marks the process that Main has started in namespaces of its own.
const inside = "SIDEGRID_FAULTS_INSIDE"

// Main is for TestMain: it runs the tests where they may make network namespaces and gives the exit code. As root
// that is here. Another user's tests run once more in a user, network and mount namespace made for them, where they
// are root over what they make there and nothing else, and which has no way out at all.
func Main(run func() int) int {
	// Where bridge is; a user's PATH on Debian is without it.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Geteuid() == 0 && os.Getenv(inside) == "" {
		return run()
	}
	if os.Getenv(inside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "can't set up the tests' own namespaces:", err)
			return 1
		}
		return run()
	}
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), inside+"=1")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	// Ctrl-C reaches the process inside by itself; this one waits for it.
	signal.Ignore(os.Interrupt)
	if err := StartHere(command); err != nil {
		fmt.Fprintln(os.Stderr, "the tests need network namespaces: run them as root, or allow user namespaces:", err)
		return 1
	}
	err := command.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "the tests inside got lost:", err)
		return 1
	}
	return command.ProcessState.ExitCode()
}

// furnish gives the new mount namespace a /run of its own, where iproute2 keeps its names, and brings up loopback.
func furnish() error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	return ip("link", "set", "lo", "up")
}
