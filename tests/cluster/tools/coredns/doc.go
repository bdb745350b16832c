// Package coredns is empty: its go.mod says which programs, of which versions, tests/cluster builds.
package coredns
