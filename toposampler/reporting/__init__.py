"""Finished runs side by side: read from their folders, on a terminal or as one HTML file."""
