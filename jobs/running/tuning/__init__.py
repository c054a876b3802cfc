"""Settings of strategies, chosen by one rule on validation patients."""
