"""From the reports that came to one decision: who is trusted, with which weights."""
