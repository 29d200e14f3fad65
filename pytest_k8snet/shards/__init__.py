"""A run in parts: an Indexed Job measures a cluster from inside, each pod a shard of its nodes, and one place judges all of it."""
