"""Learn on one site: networks, losses, metrics, the pix2pix module and the learner. No NVFlare."""
