"""What a shard holds, takes in and sends: assignment, ledger, summary, report."""
