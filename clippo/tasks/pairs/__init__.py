"""Fine-tuning on own pairs that keeps what the model knew: replay, adapters, locked sides, weight interpolation."""
