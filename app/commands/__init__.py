"""The subcommands of `resguardo`, one module for each noun."""
