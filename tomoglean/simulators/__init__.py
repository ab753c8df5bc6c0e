"""Phantoms with exact truth: an implant in bone, and a minicell with its machines."""
