"""Server adapters, one flat module per framework, and how a server is configured."""
