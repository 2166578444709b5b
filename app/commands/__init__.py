"""The commands of `resguardo` that are not about running it: a module for each noun."""
