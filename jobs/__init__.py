"""Say what to run: NVFlare job folders, the exporter that writes them and the demo's comparison."""
