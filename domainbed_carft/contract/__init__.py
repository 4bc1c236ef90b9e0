"""DomainBed's rules (commit b93c22a), each written once: seeds, jobs, records, selection."""
