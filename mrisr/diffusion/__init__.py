"""Partial diffusion: schedule, path, loss and samplers, in torch alone."""
