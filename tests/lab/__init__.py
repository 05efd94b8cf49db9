"""The lab: several hosts with real sshds on this machine. See `tests.lab.fixtures` first."""
