"""One scan's file, NIfTI, MetaImage or NRRD: what its header says, its voxel grid, its voxels."""
