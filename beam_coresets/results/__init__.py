"""What is asked and what is answered: centers, certificate, tables."""
