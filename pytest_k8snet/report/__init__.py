"""What is made of a run's record for people to look at."""
