"""One NIfTI file: what its first bytes and its header say, its voxel grid, its voxels."""
