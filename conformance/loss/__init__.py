"""Checks of packets that vanish on the way between nodes."""
