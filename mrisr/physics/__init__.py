"""The measurement y = A x + n: operators with adjoint, and a volume as a measurement."""
