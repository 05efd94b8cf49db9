"""Speed of envsync as ratios measured side by side: `python -m bench --help`."""
