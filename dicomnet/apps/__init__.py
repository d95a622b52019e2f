"""The programs that come with dicomnet. None imports another."""
