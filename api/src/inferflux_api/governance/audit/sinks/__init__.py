"""Where copies of the audit records go besides the file."""
