package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// watch measures one phase.
type watch time.Time

func startWatch() watch { return watch(time.Now()) }

// say prints what has been done and how long it took.
func (w watch) say(to io.Writer, what string) {
	fmt.Fprintf(to, "%6.1f s  %s\n", time.Since(time.Time(w)).Seconds(), what)
}

// tail gives the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// run runs a program to its end and gives what it printed.
//
// # Errors
// With the command and what it said on standard error.
func run(ctx context.Context, name string, arguments ...string) (string, error) {
	return runWith(ctx, nil, name, arguments...)
}

// runWith is run with something on standard input.
func runWith(ctx context.Context, input io.Reader, name string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, name, arguments...)
	var out, complaint bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = input, &out, &complaint
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(command.Args, " "), err, tail(complaint.String(), 10))
	}
	return out.String(), nil
}

// runAll runs commands, each a line of words, until one fails.
func runAll(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if _, err := run(ctx, words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// lockFile opens a file, making it if need be, and takes a lock on it that ends when the file is closed or the process
// ends, however that comes about. When
// another has it, that fails at once with EWOULDBLOCK.
func lockFile(path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			file.Close()
			return nil, fmt.Errorf("can't lock %s: %w", path, err)
		}
		// The one that had it may have removed the file: then this lock is on something that nobody else can see.
		mine, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return file, nil
		}
		file.Close()
	}
}

// until asks again and again until `done` says yes, and gives its last answer's reason when the context ends first.
func until(ctx context.Context, every time.Duration, what string, done func() (bool, error)) error {
	for {
		yes, err := done()
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %v)", what, context.Cause(ctx), err)
		case <-time.After(every):
		}
	}
}
