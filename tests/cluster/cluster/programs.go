package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// module is one of the modules under tools/ and the programs that are built from it.
type module struct {
	folder   string
	packages []string
	programs []string
}

// modules are built in this order; the first takes nearly all the time.
var modules = []module{
	{"kubernetes", []string{"tool"}, []string{
		"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
	}},
	{"helm", []string{"tool"}, []string{"helm"}},
	{"etcd", []string{"."}, []string{"etcd"}},
	{"coredns", []string{"tool"}, []string{"coredns"}},
}

// kubernetesVersion finds the one place that names the version: the requirement in tools/kubernetes/go.mod.
var kubernetesVersion = regexp.MustCompile(`(?m)^(?:require )?\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`)

// Source is the folder of this module on disk, where tools/ is.
//
// # Errors
// When the program was built elsewhere and SIDEGRID_CLUSTER_SOURCE doesn't name the folder.
func Source() (string, error) {
	folder := os.Getenv("SIDEGRID_CLUSTER_SOURCE")
	if folder == "" {
		_, file, _, _ := runtime.Caller(0)
		folder = filepath.Dir(filepath.Dir(file))
	}
	if _, err := os.Stat(filepath.Join(folder, "tools", "kubernetes", "go.mod")); err != nil {
		return "", fmt.Errorf("tests/cluster isn't at %q: set SIDEGRID_CLUSTER_SOURCE to that folder: %w", folder, err)
	}
	return folder, nil
}

// cacheFolder is where built programs stay between runs.
func cacheFolder() (string, error) {
	if folder := os.Getenv("SIDEGRID_CACHE"); folder != "" {
		return filepath.Join(folder, "cluster"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no folder for built programs: set SIDEGRID_CACHE or HOME: %w", err)
	}
	return filepath.Join(home, ".cache", "sidegrid", "cluster"), nil
}

// Build makes sure that Kubernetes' programs, helm, etcd and coredns are in the cache and gives their folder. What is
// there already is taken as it is: the folder's name says which versions and which Go it was built from. Two builders
// wait for each other, and a build that was killed leaves nothing that a later one would take for whole.
//
// Progress goes to `progress`. Cold, it takes about ten minutes on two cores and some gigabytes of Go's own cache.
//
// # Errors
// When a module can't be fetched or doesn't build, with what Go said.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	source, err := Source()
	if err != nil {
		return "", err
	}
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	key, err := buildKey(ctx, source)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, key, "bin")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := lockBuilds(ctx, cache, progress)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(bin); err == nil {
		return bin, nil // another builder was first
	}
	if err := sweepBuilds(cache); err != nil {
		return "", err
	}
	fmt.Fprintf(progress, "building Kubernetes and its tools once, into %s (about ten minutes)\n", filepath.Dir(bin))
	temporary, err := os.MkdirTemp(cache, buildPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	for _, m := range modules {
		if err := buildModule(ctx, source, m, filepath.Join(temporary, "bin"), progress); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return "", err
	}
	return bin, os.Rename(temporary, filepath.Dir(bin))
}

// lockBuilds waits until no other builder is at work.
func lockBuilds(ctx context.Context, cache string, progress io.Writer) (*os.File, error) {
	path := filepath.Join(cache, "lock")
	lock, err := lockFile(path)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return lock, err
	}
	fmt.Fprintln(progress, "waiting for another process that builds into", cache)
	waited := until(ctx, 500*time.Millisecond, "another process builds", func() (bool, error) {
		lock, err = lockFile(path)
		return !errors.Is(err, syscall.EWOULDBLOCK), err
	})
	if waited != nil {
		return nil, waited
	}
	return lock, err
}

// buildPrefix begins the names of folders that are being built into.
const buildPrefix = "building-"

// sweepBuilds removes what killed builds left. The caller holds the lock, so none of them is at work.
func sweepBuilds(cache string) error {
	left, err := filepath.Glob(filepath.Join(cache, buildPrefix+"*"))
	for _, folder := range left {
		err = errors.Join(err, os.RemoveAll(folder))
	}
	return err
}

// buildKey is a hash of everything that decides what comes out of a build.
func buildKey(ctx context.Context, source string) (string, error) {
	version, err := run(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "1\n%s\n", version)
	for _, m := range modules {
		files, err := filepath.Glob(filepath.Join(source, "tools", m.folder, "*"))
		if err != nil {
			return "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(hash, "%s/%s %d\n%s", m.folder, filepath.Base(file), len(text), text)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:8]), nil
}

// linkFlags leave out symbols and give Kubernetes the version that it tells its clients.
func linkFlags(source string) (string, error) {
	text, err := os.ReadFile(filepath.Join(source, "tools", "kubernetes", "go.mod"))
	if err != nil {
		return "", err
	}
	found := kubernetesVersion.FindSubmatch(text)
	if found == nil {
		return "", errors.New("tools/kubernetes/go.mod doesn't require k8s.io/kubernetes")
	}
	const at = "k8s.io/component-base/version."
	return fmt.Sprintf("-s -w -X %sgitVersion=%s -X %sgitMajor=%s -X %sgitMinor=%s",
		at, found[1], at, found[2], at, found[3]), nil
}

// buildModule builds a module's programs in one go, so that what they share is built once.
func buildModule(ctx context.Context, source string, m module, bin string, progress io.Writer) error {
	flags := "-s -w"
	if m.folder == "kubernetes" {
		var err error
		if flags, err = linkFlags(source); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	watch := startWatch()
	arguments := append([]string{"build", "-trimpath", "-ldflags", flags, "-o", bin + "/"}, m.packages...)
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = filepath.Join(source, "tools", m.folder)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("can't build tools/%s: %w\n%s", m.folder, err, tail(string(output), 30))
	}
	for _, program := range m.programs {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return fmt.Errorf("tools/%s was built, but without %s: %w", m.folder, program, err)
		}
	}
	watch.say(progress, "built "+strings.Join(m.programs, ", "))
	return nil
}

// buildStatic builds a program of this module without anything that it would need from an image.
func buildStatic(ctx context.Context, name, out string) error {
	source, err := Source()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./"+filepath.Clean(name))
	command.Dir = source
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("can't build %s: %w\n%s", name, err, tail(string(output), 30))
	}
	return nil
}
