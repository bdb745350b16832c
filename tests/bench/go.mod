module example.com/sidegrid/bench

go 1.24
