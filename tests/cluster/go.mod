module example.com/sidegrid/cluster

go 1.26.0
