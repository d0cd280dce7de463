"""What a model is worth on patients it has not seen."""
