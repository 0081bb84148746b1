"""What a run says: one JSON document, and renderers that read nothing else."""
