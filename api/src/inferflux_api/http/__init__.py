"""What HTTP needs, whatever the dialect."""
