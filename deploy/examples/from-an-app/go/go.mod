module sidegrid.dev/examples/from-an-app

go 1.26
