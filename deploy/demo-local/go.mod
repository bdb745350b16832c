module example.com/sidegrid/demo

go 1.24
