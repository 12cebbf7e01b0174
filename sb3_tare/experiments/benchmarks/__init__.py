"""What costs how much: ratios, measured in one run."""
