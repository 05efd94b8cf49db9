"""What systemd is told and asked: the shipped units, systemctl, installation, sd_notify."""
