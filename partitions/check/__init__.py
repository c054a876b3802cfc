"""What is wrong with a data set: rules, the pass of ``check`` over all scans, and what it says."""
