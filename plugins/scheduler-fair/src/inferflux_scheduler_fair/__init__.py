"""Scheduler `fair`: shares an engine between tenants by what they are served."""
