"""dicomnet: the DICOM network stack for Python."""
