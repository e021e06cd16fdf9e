"""The attack lab: what powfast's defence is worth, by experiments that a sceptic can rerun."""
