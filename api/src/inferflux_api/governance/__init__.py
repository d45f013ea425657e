"""Who may do what, how often, and with which words. Every dialect passes through here."""
