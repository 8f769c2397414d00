"""What is measured: on one step's outputs, on a run so far, on a frozen encoder."""
