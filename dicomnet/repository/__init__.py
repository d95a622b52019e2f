"""What archive, router and workstation share: blob stores, index, group commit, matching, outbox."""
