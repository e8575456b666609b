"""What the microscope shows: a recorded forward and backward pass, as data."""
