// Package faults hurts real members and looks at what is left: each test is named by the behaviour that it shows.
// See README.md.
package faults
