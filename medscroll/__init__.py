"""medscroll: train large medical language models on whole documents, on as many machines as you have."""

__version__ = "0.1.0"
