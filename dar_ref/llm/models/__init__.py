"""The policy's weights and the tokenizers."""
