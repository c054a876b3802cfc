"""Connect the learner to NVFlare: executor, aggregators, filters and widgets. Thin."""
