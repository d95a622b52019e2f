"""The bridge to pydicom: data sets decoded and encoded, character sets, transcoding."""
