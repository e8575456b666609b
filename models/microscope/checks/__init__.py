"""The witnesses of what the microscope shows."""
