"""What the training of every application shares, on PyTorch Lightning."""
