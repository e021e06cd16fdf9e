"""Workers of one host share the store that `POWFAST_STORE` names."""

bind = "127.0.0.1:8000"
workers = 2
threads = 4
