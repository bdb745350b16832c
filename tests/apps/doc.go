// Package apps runs what the documents show to an app developer: the clients of deploy/examples/from-an-app
// in four languages, and the blocks of commands that README.md and docs/ print.
package apps
