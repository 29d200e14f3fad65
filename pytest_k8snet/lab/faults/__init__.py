"""Things to break on purpose, and what each turns red: the proof that checks see real faults."""
