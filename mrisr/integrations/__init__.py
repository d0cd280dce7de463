"""mrisr where its users work: MONAI bundles, 3D Slicer, napari."""
