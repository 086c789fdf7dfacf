"""What a run costs: floating-point operations and the peaks that they are held against."""
