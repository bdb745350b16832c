module sidegrid.dev/tests/apps

go 1.26
