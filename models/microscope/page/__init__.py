"""Displays of the record: one HTML page, a live server, and tables in the terminal."""
