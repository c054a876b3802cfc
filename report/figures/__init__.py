"""Draw curves, channel maps and pictures as images that can be inlined."""
