"""The service under systemd: the shipped units, systemctl, installation, sd_notify."""
