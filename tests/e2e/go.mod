module example.com/sidegrid/e2e

go 1.26.0
