"""A real systemd on a host of the lab: PID 1, journal, logind and D-Bus, booted in a second.

    the lab's server1 (its network, its storage, its homes)
        systemd-nspawn, over an overlay of this machine's own root, in its own cgroup

Nothing is downloaded and nothing of the machine is changed. Everything ends with the host's
namespaces, however the test process ends.
"""
