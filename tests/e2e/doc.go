// Package e2e holds the tests on a real Kubernetes, one file a behaviour. See README.md.
package e2e
