"""A torture test: processes are killed at random times, and no promise may be broken.

Its rounds are changes, drift, pushes, rollbacks and clean-ups over a real sshd; in most of them
a process is killed. A reader samples the target throughout. After each command everything on
the target's disk is read and judged by what the script did, not by what envsync says.
"""
