"""The parameters of jobs and streams."""
