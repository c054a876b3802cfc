"""From a scan's own voxel grid to prepared slices, and back."""
