"""What was measured, as it lies in the run folder: the only thing a judgement may look at."""
