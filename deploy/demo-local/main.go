// Demo shows Sidegrid on one machine: three sidecars, three copies of a small web service that keeps its login
// sessions in them, and what is left of a session when one sidecar dies.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "\nThe demo failed:", err)
		os.Exit(1)
	}
}

// run does it all and cleans up whatever happens.
func run(ctx context.Context) (err error) {
	sidegrid, sessions, err := programs()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sidegrid-demo-")
	if err != nil {
		return err
	}
	processes := NewProcesses(dir)
	defer func() {
		fmt.Println("\nEnding everything that was started ...")
		processes.EndAll()
		if err != nil && !errors.Is(err, context.Canceled) {
			fmt.Println("The logs are kept in", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
		fmt.Println("Done; nothing is left behind.")
	}()
	demo := &Demo{processes: processes, dir: dir, sidegrid: sidegrid, sessions: sessions}
	if err := demo.Start(ctx); err != nil {
		return err
	}
	if err := demo.Show(ctx); err != nil {
		return err
	}
	if os.Getenv("DEMO_EXIT") == "1" {
		return nil
	}
	demo.Invite()
	<-ctx.Done()
	return nil
}

// programs are the paths of the two programs that the demo runs, as demo.sh has built them.
func programs() (sidegrid, sessions string, err error) {
	paths := map[string]string{"SIDEGRID_BIN": "", "SESSIONS_BIN": ""}
	for name := range paths {
		if os.Getenv(name) == "" {
			return "", "", fmt.Errorf("%s is not set; start the demo with demo.sh, which builds what it needs", name)
		}
		if paths[name], err = filepath.Abs(os.Getenv(name)); err != nil {
			return "", "", err
		}
		if _, err := os.Stat(paths[name]); err != nil {
			return "", "", err
		}
	}
	return paths["SIDEGRID_BIN"], paths["SESSIONS_BIN"], nil
}
