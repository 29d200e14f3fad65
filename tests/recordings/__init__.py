"""Real run folders, small, and how they are kept."""
