"""What belongs to the paper: its published figures, and the HashCash stamps it asked for."""
