"""The microscope's data: a recorded forward and backward pass, as JSON."""
