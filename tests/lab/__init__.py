"""The lab: several hosts with real sshds on this machine. Start with tests.lab.fixtures."""
