"""Code generators and the linking of artifacts."""
