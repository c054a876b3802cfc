"""What a published evaluation measures: metrics, range, window and mask, one file each."""
