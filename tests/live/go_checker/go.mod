module resguardo.example/go_checker

go 1.26.0

require golang.org/x/mod v0.43.0
