"""Axial, coronal and sagittal stacks of one patient: registered on the gland, and made one volume."""
