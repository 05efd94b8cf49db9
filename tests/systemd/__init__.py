"""A real systemd on a host of the lab: PID 1, journal, logind and D-Bus, booted in a second.

    the lab's server1 (its network, its storage, its homes)
        systemd-nspawn, over an overlay of this machine's own root, a cgroup of its own

Nothing is downloaded, nothing of the machine is changed, and everything ends with the host's
namespaces, however the test process ends.
"""
