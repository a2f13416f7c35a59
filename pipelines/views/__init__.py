"""Commands that show what is there: a report page and a live page."""
