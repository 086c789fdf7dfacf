"""The stages of training; each is data and loss, and ends in `medscroll.engine.session`."""
