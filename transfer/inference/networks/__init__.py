"""The trained networks of one run as compiled programs."""
