"""Nouns, frozen and validated: devices, number formats, engine profiles, plans, workloads."""
