"""The subcommands of `envsync daemon`: for people, and for its own child processes."""
