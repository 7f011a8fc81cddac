"""What a child process does that trains: an arm of an experiment at one seed, from its last checkpoint or its first
step on."""
