"""Verbs, pure: what the declarations of parts and the choices of a plan amount to, in bytes and counts."""
