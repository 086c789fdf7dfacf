"""One executable, `medscroll`; one file a verb."""
