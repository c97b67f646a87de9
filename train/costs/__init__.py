"""What a job will take, before it takes it: memory, disk, and the share of its work that tracks."""
