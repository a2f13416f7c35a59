"""Runners: what they need, and how jobs are run on them."""
