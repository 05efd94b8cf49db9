"""The switch from one version to another: guarded, checked, recovered, and what may go after it."""
