"""Independent checks of the numbers that the microscope shows."""
