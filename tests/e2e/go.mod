module example.com/sidegrid/e2e

go 1.26.0

require example.com/sidegrid/cluster v0.0.0

replace example.com/sidegrid/cluster => ../cluster
