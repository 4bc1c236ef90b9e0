"""The methods as DomainBed Algorithms, and the one table of them."""
