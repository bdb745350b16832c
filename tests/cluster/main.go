// Command cluster brings up a real Kubernetes on this machine and takes it down again. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"syscall"

	"example.com/sidegrid/cluster/cluster"
)

const usage = `usage: cluster [--dir DIR] [--instance N] COMMAND

  build                   build Kubernetes and its tools into the cache, once
  up                      bring up a control plane and three nodes
  down                    end it and leave nothing
  sweep                   remove what killed runs left
  status                  say what runs
  load IMAGE_TAR...       put images on every node
  cut NODE                drop every packet between a node and everything else
  heal NODE               take that back
  kubeconfig              print the path of the administrator's kubeconfig
  image NAME BINARY OUT   make an image of one static binary
`

// exitUsage is the exit code for a command line that makes no sense.
const exitUsage = 64

var errUsage = errors.New("no such command, or not its arguments")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	line := flag.NewFlagSet("cluster", flag.ContinueOnError)
	root := line.String("dir", cluster.DefaultRoot(), "the folder in which clusters have theirs")
	instance := line.Int("instance", 0, "which cluster, 0 to 9: several can be up side by side")
	nodes := line.Int("nodes", 3, "how many nodes `up` makes, 1 to 9")
	hold := line.Bool("hold", false, "`up` stays in the foreground, and the cluster ends with it")
	line.Usage = func() { fmt.Fprint(os.Stderr, usage); line.PrintDefaults() }
	if err := line.Parse(os.Args[1:]); err != nil {
		os.Exit(exitUsage)
	}
	options := cluster.Options{Root: *root, Instance: *instance, Nodes: *nodes, Owned: *hold, Log: os.Stderr}
	err := do(ctx, options, line.Args())
	if errors.Is(err, errUsage) {
		line.Usage()
		os.Exit(exitUsage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// do carries out one command.
func do(ctx context.Context, options cluster.Options, words []string) error {
	if len(words) == 0 {
		return errUsage
	}
	command, arguments := words[0], words[1:]
	switch {
	case command == "build" && len(arguments) == 0:
		bin, err := cluster.Build(ctx, os.Stderr)
		if err == nil {
			fmt.Println(bin)
		}
		return err
	case command == "up" && len(arguments) == 0:
		return up(ctx, options)
	case command == "down" && len(arguments) == 0:
		return cluster.Down(options.Root, options.Instance)
	case command == "sweep" && len(arguments) == 0:
		return cluster.Sweep(options.Root)
	case command == "image" && len(arguments) == 3:
		return cluster.Image(arguments[0], arguments[1], arguments[2])
	}
	return withCluster(ctx, options, command, arguments)
}

// up brings up a cluster and, if it is to be held, waits to be interrupted and takes it down.
func up(ctx context.Context, options cluster.Options) error {
	c, err := cluster.Up(ctx, options)
	if err != nil || !options.Owned {
		return err
	}
	<-ctx.Done()
	return c.Down()
}

// withCluster carries out a command for which a cluster must be up.
func withCluster(ctx context.Context, options cluster.Options, command string, arguments []string) error {
	known := map[string]bool{
		"status": len(arguments) == 0, "kubeconfig": len(arguments) == 0,
		"cut": len(arguments) == 1, "heal": len(arguments) == 1, "load": len(arguments) > 0,
	}
	if !known[command] {
		return errUsage
	}
	c, err := cluster.Open(options.Root, options.Instance)
	if err != nil {
		return err
	}
	switch command {
	case "status":
		return status(ctx, c)
	case "kubeconfig":
		fmt.Println(c.Kubeconfig())
		return nil
	case "cut":
		return c.Cut(ctx, arguments[0])
	case "heal":
		return c.Heal(ctx, arguments[0])
	default:
		return c.Load(ctx, arguments...)
	}
}

// status prints what runs, and fails if anything doesn't.
func status(ctx context.Context, c *cluster.Cluster) error {
	report, err := c.Status(ctx)
	sort.Strings(report)
	for _, line := range report {
		fmt.Println(line)
	}
	return err
}
