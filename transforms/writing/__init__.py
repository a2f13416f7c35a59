"""Tables, claims and topics."""
