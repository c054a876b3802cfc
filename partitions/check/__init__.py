"""What is wrong with a data set: pure checks, which raise a sentence that says what to do."""
