"""The `offloader` command: one module per group of subcommands."""
