"""Models of other programs as segmenters of the zones: MONAI bundles and nnU-Net."""
