"""The subcommands of `resguardo`, one module for each group of commands."""
