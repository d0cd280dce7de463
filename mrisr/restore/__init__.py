"""From models to volumes: the two upsamplers, their options, and the provenance record."""
