"""Judgements: pure functions of recorded documents and expectations. No I/O, no pytest, no clock."""
