"""What models are made of: parts that declare their weights and caches, and the model as stacks of them."""
