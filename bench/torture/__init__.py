"""Whatever is killed, whenever, in whatever order: is a promise ever broken?

Rounds of changes, drift, pushes, rollbacks and clean-ups over a real sshd, in most of which
somebody is killed. A reader samples the target throughout; after each command everything on
the target's disk is read and judged by what the script did, not by what envsync says.
"""
