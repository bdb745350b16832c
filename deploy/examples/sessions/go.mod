module example.com/sidegrid/sessions

go 1.24
