"""Clients that answer challenges by themselves, one module per HTTP library."""
