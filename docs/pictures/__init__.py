"""What the pictures of the site show; `docs/figures.py` writes them."""
