"""What is looked at before training, so that nothing is found out after a step."""
