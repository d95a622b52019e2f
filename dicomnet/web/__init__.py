"""HTTP over a repository: DICOMweb (PS3.18), rendered pictures, the viewer."""
