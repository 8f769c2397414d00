"""How fast this machine does the work, part by part, and how near that is to what the machine can do."""
