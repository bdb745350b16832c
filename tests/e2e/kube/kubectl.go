// Package kube speaks to the API server as a person does, by kubectl, with JSON in and out.
package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// CallLimit bounds one call of kubectl that is not told to wait for something.
const CallLimit = time.Minute

// Kubectl runs the program against one cluster.
type Kubectl struct {
	// Program is the path of kubectl.
	Program string
	// Config is the path of the kubeconfig.
	Config string
}

// Error is a call that failed.
type Error struct {
	Arguments []string
	// Said is what kubectl wrote to standard error.
	Said string
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("kubectl %s: %v: %s", strings.Join(e.Arguments, " "), e.Err, strings.TrimSpace(e.Said))
}

// Unwrap gives why the call failed.
func (e *Error) Unwrap() error { return e.Err }

// Run calls kubectl with `input` on its standard input and gives its standard output. An error is an *Error.
func (k *Kubectl) Run(ctx context.Context, input string, arguments ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, CallLimit)
	defer cancel()
	return k.RunFor(ctx, input, arguments...)
}

// RunFor is Run for a call that waits, such as `rollout status`: bounded by ctx alone.
func (k *Kubectl) RunFor(ctx context.Context, input string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, k.Program, arguments...)
	// Nothing of the caller's own set-up may lead to another cluster.
	command.Env = append(os.Environ(), "KUBECONFIG="+k.Config)
	command.Stdin = strings.NewReader(input)
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		return out, &Error{Arguments: arguments, Said: said.String(), Err: err}
	}
	return out, nil
}

// Get reads an object, or a list of them, into `into`.
func (k *Kubectl) Get(ctx context.Context, into any, arguments ...string) error {
	out, err := k.Run(ctx, "", append([]string{"get", "--output=json"}, arguments...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

// Apply applies what `manifest` says, in the namespace if it names one.
func (k *Kubectl) Apply(ctx context.Context, namespace, manifest string) error {
	arguments := []string{"apply", "--filename=-"}
	if namespace != "" {
		arguments = append(arguments, "--namespace="+namespace)
	}
	_, err := k.Run(ctx, manifest, arguments...)
	return err
}

// IsNotFound says whether a call failed since the object is not there.
func IsNotFound(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && strings.Contains(failed.Said, "(NotFound)")
}

// Said is what kubectl wrote when a call failed, or the error's own text.
func Said(err error) string {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.Said
	}
	return fmt.Sprint(err)
}

// Objects reads YAML documents as JSON objects without asking any API server.
func (k *Kubectl) Objects(ctx context.Context, yaml string) ([]map[string]any, error) {
	// The label is a way to make kubectl print them; it is taken off again.
	out, err := k.Run(ctx, yaml, "label", "--local", "--filename=-", "--output=json", readMark+"=1")
	if err != nil {
		return nil, err
	}
	var objects []map[string]any
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var object map[string]any
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		metadata, _ := object["metadata"].(map[string]any)
		labels, _ := metadata["labels"].(map[string]any)
		delete(labels, readMark)
		if len(labels) == 0 {
			delete(metadata, "labels")
		}
		objects = append(objects, object)
	}
}

const readMark = "sidegrid-e2e-read"
