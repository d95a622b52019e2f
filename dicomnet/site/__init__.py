"""The site: archive, workstation, router and clients that know each other, set up, checked, started and stopped."""
