"""From a trained model to a translated scan: the model's file, new patients, written results."""
